"""`duxnet key`: shows or replaces the key of this machine's node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import config_option, format_option, local_state_dir_option
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from registry_core.identity.node_key import NodeKey

__all__ = ["key"]


def _where(command: Callable[..., int]) -> Callable[..., int]:
    return local_state_dir_option(config_option(format_option(command)))


@click.group("key", cls=SuggestingGroup)
def key() -> None:
    """Show the key of this machine's node, or replace it.

    A node keeps the id of its first key for ever. The secret key is never printed.
    """


@key.command("show")
@_where
def show_command(state_dir: Optional[str], config: Optional[str], output: str) -> int:
    """Show the node's id and public keys.

    Prints the id, the current and the first public key, and how often the key was replaced. Changes nothing.
    """
    from duxnet.cli.local_agent import find_local_agent
    from registry_core.files.locks import locked_folder
    from registry_core.identity.identity_files import check_key_file
    from registry_core.identity.node_key import load_node_key

    folder = find_local_agent(config, state_dir).state_dir
    check_key_file(folder)
    with locked_folder(folder):
        found = load_node_key(folder)
    _print(folder, found, output)
    return 0


@key.command("rotate")
@_where
def rotate_command(state_dir: Optional[str], config: Optional[str], output: str) -> int:
    """Give the node a new key and destroy the old one.

    The node keeps its id, its history and its reputation. The agent may be running: it uses the new key within five
    minutes, or at once after a reload (SIGHUP). After the next registration a coordinator refuses the old key, and with
    it every older backup, so make a new backup. A key can be replaced at most 16 times.
    """
    from agent.state_dir import holder_of
    from duxnet.cli.local_agent import find_local_agent
    from registry_core.identity.replace_key import replace_key

    folder = find_local_agent(config, state_dir).state_dir
    made = replace_key(folder)
    _print(folder, made, output)
    for line in _next_steps(folder, holder_of(folder)):
        say(line, err=True)
    return 0


def _next_steps(folder: Path, agent_pid: Optional[int]) -> list[str]:
    from agent.status_file import UNIT_STATE_FOLDER

    backup = f"Back up {folder} again: a coordinator that has seen the new key refuses copies of the old one."
    if agent_pid is None:
        return ["No agent is running here: the next start uses the new key.", backup]
    by_service = folder.resolve() == UNIT_STATE_FOLDER.resolve()
    reload = "sudo systemctl reload duxnet-agent" if by_service else f"kill -HUP {agent_pid}"
    return [f"The running agent uses the new key within five minutes, or at once after: {reload}", backup]


def _print(folder: Path, found: NodeKey, output: str) -> None:
    from duxnet.cli.output import print_json, print_pairs
    from registry_core.identity.succession import MOST_LINKS

    if output == "json":
        plain = {
            "schema": "duxnet.key/1.0",
            "node_id": found.node_id,
            "public_key": found.public_key,
            "first_public_key": found.first_public_key,
            "replacements": len(found.succession),
            "most_replacements": MOST_LINKS,
            "state_dir": str(folder),
        }
        print_json(plain)
        return
    print_pairs(
        [
            ("node", found.node_id),
            ("public key", found.public_key),
            ("first key", found.first_public_key),
            ("replaced", f"{len(found.succession)} of at most {MOST_LINKS} times"),
            ("state directory", str(folder)),
        ]
    )
