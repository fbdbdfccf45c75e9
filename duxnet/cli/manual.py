"""`duxnet manual`: the manual page, made from the help texts that `--help` shows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from duxnet.process.terminal import say_text

__all__ = ["manual", "manual_page"]

FILES = (
    ("/etc/duxnet/config.toml", "settings of the agent and the coordinator"),
    ("/etc/credstore/duxnet-agent.join-token", "a secret for the service; docs/operations.md names the others"),
    ("/var/lib/duxnet-agent", "the identity of the node and its embedded registry"),
    ("/run/duxnet-agent/agent.json", "what duxnet status shows about the service"),
)


@click.command("manual")
def manual() -> int:
    """Print the manual page.

    \b
    Read it:    duxnet manual | man -l -
    Install it: duxnet manual | sudo tee /usr/local/share/man/man1/duxnet.1
    """
    say_text(manual_page())
    return 0


def manual_page() -> str:
    """The page in man(7)'s macros."""
    from duxnet.cli.group import EXIT_CODES, group
    from registry_core.version import __version__

    top = group()
    context = click.Context(top, info_name="duxnet")
    lines = [
        f'.TH DUXNET 1 "" "duxnet {__version__}" "User Commands"',
        ".SH NAME",
        "duxnet \\- find machines that are ready for work",
    ]
    lines += [".SH SYNOPSIS", ".B duxnet", "\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]", ".SH DESCRIPTION"]
    lines += [_text(top.help or ""), ".SH COMMANDS", *_commands(top, context)]
    for heading, rows in (("EXIT STATUS", EXIT_CODES.items()), ("FILES", FILES)):
        lines += [f".SH {heading}"]
        lines += [f".TP\n.B {_text(name)}\n{_text(meaning)}" for name, meaning in rows]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Each command with its usage, text and options; the commands of a group follow the group."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        own = click.Context(command, parent=context, info_name=name)
        yield f".SS {_text(own.command_path)} {_text(' '.join(command.collect_usage_pieces(own)))}"
        for number, paragraph in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
            if number:
                yield ".PP"
            is_verbatim = paragraph.startswith("\b\n")
            yield f".nf\n{_text(paragraph[2:])}\n.fi" if is_verbatim else _text(" ".join(paragraph.split()))
        for parameter in command.get_params(own):
            record = parameter.get_help_record(own)
            if record is not None and "--help" not in record[0]:
                yield f".TP\n.B {_text(record[0])}\n{_text(record[1])}"
        if isinstance(command, click.Group):
            yield from _commands(command, own)


def _text(text: str) -> str:
    """The text for roff: backslashes and hyphens are escaped, and no line begins like a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())
