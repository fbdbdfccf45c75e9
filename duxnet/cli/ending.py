"""How a command ends: its exit code, and one line on stderr for an error that is not a fault of the program.

A fault of the program keeps its traceback: that is what a bug report needs.
"""

from __future__ import annotations

import os
import sys
from typing import Callable

from duxnet.process.errors import EXIT_BAD_CONFIGURATION, EXIT_RUNTIME, EXIT_USAGE, ConfigurationError
from registry_core.errors import RegistryError, ValidationError

__all__ = ["ended"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells expect
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def ended(run: Callable[[], int]) -> int:
    """The exit code of `run`, whose errors are told here."""
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        _forget_stdout()
        return _BROKEN_PIPE
    except ConfigurationError as error:
        return _told(EXIT_BAD_CONFIGURATION, *(f"configuration: {problem}" for problem in error.problems))
    except ValidationError as error:
        return _told(EXIT_USAGE, str(error))
    except RegistryError as error:
        return _told(EXIT_RUNTIME, str(error))
    except OSError as error:
        where = f"{error.filename!a}: " if error.filename is not None else ""
        return _told(EXIT_RUNTIME, f"{where}{error.strerror or error}")
    return code


def _told(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"duxnet: {line}\n")
    return code


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
