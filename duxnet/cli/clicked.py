"""Runs a click command as one of our own: its errors told in click's words, its ending an exit code."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["run_click"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells expect


def run_click(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """The exit code of `command`, called `name` in its messages. Errors that are not click's pass through."""
    try:
        result: object = command.main(list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.Abort:  # Ctrl-C
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0
