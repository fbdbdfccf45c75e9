"""`duxnet completion`: the script by which a shell completes the command line. click does the completion itself."""

from __future__ import annotations

import click

from duxnet.process.terminal import say_text

__all__ = ["completion"]


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script for SHELL: bash, zsh or fish.

    Write it to the file in which your shell looks for it, as in `duxnet completion fish > FILE`:

    \b
    bash: ~/.local/share/bash-completion/completions/duxnet
    zsh:  ~/.zfunc/_duxnet, with ~/.zfunc in $fpath before compinit
    fish: ~/.config/fish/completions/duxnet.fish
    """
    from click.shell_completion import get_completion_class

    from duxnet.cli.group import group

    found = get_completion_class(shell)
    assert found is not None
    say_text(found(group(), {}, "duxnet", "_DUXNET_COMPLETE").source())
    return 0
