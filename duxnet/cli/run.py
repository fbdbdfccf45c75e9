"""How a command ends: with its exit code and, for an error that is not a bug, with `duxnet: …` on standard error.

The line after it, if there is one, says what the user can do. A bug keeps its traceback, which a report needs.
"""

from __future__ import annotations

import contextlib
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
    """Call `run`, print its error if it raises one, and return the exit code.

    Buffered output is flushed here too. The interpreter would otherwise try it at exit, print a complaint of its own
    when the device is full, and end with code 120.
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
    except OSError:  # nothing can be printed any more: only the exit code is left
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
    except CommandError as error:
        reason, _, more = error.reason.partition("\n")
        return _failed(EXIT_RUNTIME, reason, remedy=f"{more}\n{error.remedy}".lstrip("\n"))
    except RegistryError as error:
        reason, remedy = _in_words_of_the_command_line(error)
        return _failed(EXIT_RUNTIME, reason, remedy=remedy)
    except OSError as error:
        return _code_of_error(error)


def _code_of_error(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # the reader has left, as `head` does
        return _BROKEN_PIPE
    where = f"{error.filename!a}: " if error.filename is not None else ""
    return _failed(EXIT_RUNTIME, f"{where}{error.strerror or error}")


def _in_words_of_the_command_line(error: RegistryError) -> tuple[str, str]:
    """The reason and the remedy. The library's own remedies speak of arguments and headers."""
    from registry_core.errors import RefusedError, SealedStoreError, StoreInUseError, shown_path

    if isinstance(error, StoreInUseError):
        holder = "another process" if error.holder_pid is None else f"process {error.holder_pid}"
        reason = f"{shown_path(error.path)}: {holder} has this registry open for writing"
        return reason, "Stop that process first. If it is a coordinator, name its address instead: --registry URL."
    if isinstance(error, SealedStoreError):
        return str(error), (
            "The key comes from --key-file of `duxnet registry`, from registry.encryption_key_file of the "
            "configuration\nor from $DUXNET_REGISTRY_ENCRYPTION_KEY."
        )
    if isinstance(error, RefusedError) and error.code == "token-required":
        return error.reason, (
            "Set DUXNET_REGISTRY__TOKEN, or token in [registry] of the configuration, to a token with the right role.\n"
            "`duxnet token create` makes one on the coordinator's machine."
        )
    return str(error), ""


def _failed(code: int, *lines: str, remedy: str = "") -> int:
    with contextlib.suppress(OSError):  # standard error is full or closed: `ended` discards what is left in it
        say(*(f"duxnet: {line}" for line in lines), err=True)
        if remedy:
            say_text(remedy, err=True)
    return code


def _show_crash(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """Print a traceback as the interpreter does, but with control characters escaped."""
    import traceback

    for line in traceback.format_exception(kind, error, trace):
        say_text(line, err=True)


def _make_streams_safe() -> None:
    """Connect streams that the caller closed (>&-) to /dev/null, and escape what a terminal cannot show (®, …).

    Without /dev/null there, the next file that the process opens would become its standard output.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            from pathlib import Path  # imported here: it takes 3 ms, and few callers close a stream

            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - open until the process ends
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _let_go(stream: TextIO) -> None:
    """Discard what is still buffered in `stream`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def run_click(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run `command`, which messages call `name`, and return its exit code. Errors that are not click's pass through."""
    import click  # imported here: `duxnet probe` runs without it

    try:
        result: object = command.main(
            list(arguments), prog_name=name, standalone_mode=False, help_option_names=["-h", "--help"]
        )
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except SystemExit:
        if "_DUXNET_COMPLETE" in os.environ:
            raise
        raise BrokenPipeError from None  # apart from completion, click exits by itself only for a broken pipe
    except click.Abort:  # Ctrl-C
        return _INTERRUPTED
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later, whose own text is the help
            with contextlib.suppress(OSError):
                say_text(error.format_message(), err=True)
            return error.exit_code
        return _failed(error.exit_code, _usage_text(error), remedy=_help_hint(error))
    return result if isinstance(result, int) else 0


def _usage_text(error: click.ClickException) -> str:
    """A usage error in the form of all other errors: what is wrong, without a capital and a full stop."""
    import click

    if isinstance(error, click.NoSuchOption):
        return f"there is no option {error.option_name!a}{_close_option(error)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.human_readable_name} is missing"
    if isinstance(error, click.BadParameter):
        hint = error.param_hint or (error.param.get_error_hint(error.ctx) if error.ctx and error.param else "")
        return f"{hint.replace(chr(39), '')}: {error.message.rstrip('.')}".removeprefix(": ")
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]


def _close_option(error: click.NoSuchOption) -> str:
    import difflib

    given = error.option_name.lstrip("-")
    known = (
        {} if error.ctx is None else {name.lstrip("-"): name for item in error.ctx.command.params for name in item.opts}
    )
    close = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else ""


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"See `{context.command_path} --help`." if context is not None else ""
