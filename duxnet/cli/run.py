"""How a command ends: its exit code, and one line on stderr for an error that is not a fault of the program.

A fault of the program keeps its traceback: that is what a bug report needs.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Optional, TextIO

from duxnet.process.errors import EXIT_BAD_CONFIGURATION, EXIT_RUNTIME, EXIT_USAGE, CommandError, ConfigurationError
from duxnet.process.terminal import say, say_text
from registry_core.errors import RegistryError, ValidationError

if TYPE_CHECKING:
    import click

__all__ = ["ended", "run_click"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells expect
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def ended(run: Callable[[], int]) -> int:
    """The exit code of `run`, whose errors are printed here.

    What is still in the streams is written here too: the interpreter's own last attempt would add a complaint to the
    error and make the exit code 120.
    """
    _make_streams_safe()
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_crash
    code = _code_of(run)
    try:
        sys.stdout.flush()
    except OSError as error:
        _let_go(sys.stdout)
        code = code or _code_of_error(error)
    try:
        sys.stderr.flush()
    except OSError:  # no place is left to say so: the exit code alone speaks
        _let_go(sys.stderr)
    return code


def _code_of(run: Callable[[], int]) -> int:
    try:
        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ConfigurationError as error:
        return _failed(EXIT_BAD_CONFIGURATION, *(f"configuration: {problem}" for problem in error.problems))
    except ValidationError as error:
        return _failed(EXIT_USAGE, str(error))
    except CommandError as error:  # our own words, a remedy in lines of its own perhaps
        with contextlib.suppress(OSError):
            say_text(f"duxnet: {error}", err=True)
        return EXIT_RUNTIME
    except RegistryError as error:
        return _failed(EXIT_RUNTIME, str(error))
    except OSError as error:
        return _code_of_error(error)


def _code_of_error(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # the reader, `head` perhaps, has seen enough
        return _BROKEN_PIPE
    where = f"{error.filename!a}: " if error.filename is not None else ""
    return _failed(EXIT_RUNTIME, f"{where}{error.strerror or error}")


def _failed(code: int, *lines: str) -> int:
    with contextlib.suppress(OSError):  # standard error takes nothing: `ended` sees to what is left in it
        say(*(f"duxnet: {line}" for line in lines), err=True)
    return code


def _show_crash(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """A traceback as the interpreter shows it, but for what a terminal would act on."""
    import traceback

    for line in traceback.format_exception(kind, error, trace):
        say_text(line, err=True)


def _make_streams_safe() -> None:
    """Streams that the caller closed (>&-) go nowhere, and what a terminal cannot show (®, …) is escaped.

    Nowhere, and not nothing: the next file that is opened would become standard output.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            from pathlib import Path  # here: it takes 3 ms, and hardly any caller closes a stream

            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - as long as the process
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _let_go(stream: TextIO) -> None:
    """Let what `stream` still holds go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def run_click(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """The exit code of `command`, called `name` in its messages. Errors that are not click's pass through."""
    import click  # here, since `duxnet probe` runs without it

    try:
        result: object = command.main(list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # click makes an exit of it; it ends as in any command
            raise ending.__context__ from None
        raise
    except click.Abort:  # Ctrl-C
        return _INTERRUPTED
    except click.ClickException as error:
        with contextlib.suppress(OSError):  # standard error takes nothing: the exit code still says what is wrong
            shown = io.StringIO()
            error.show(shown)
            say_text(shown.getvalue(), err=True)
        return error.exit_code
    return result if isinstance(result, int) else 0
