"""`duxnet token create|list|revoke`: the tokens to join, read, rate and operate. The coordinator may be running."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import config_option, format_option, state_dir_option
from duxnet.cli.output import print_json, print_table, time_text
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duxnet.coordinator.access.token_store import TokenRow, TokenStore

__all__ = ["token"]

_HOUR = 3600.0


@click.group("token", cls=SuggestingGroup)
def token() -> None:
    """Create, list and revoke a coordinator's tokens.

    The state directory of the coordinator must be on this machine. The coordinator may be running.
    """


_state_dir = state_dir_option("The state directory of the coordinator. Default: the configured one.")


@token.command("create")
@click.argument("role", metavar="ROLE", type=click.Choice(["join", "reader", "rater", "operator"]))
@click.option("--label", default="", help="A note that `duxnet token list` shows.")
@click.option("--uses", type=click.IntRange(1), help="For join: how many nodes may use the token. Default: 1.")
@click.option("--any-number", is_flag=True, help="For join: any number of nodes may use the token.")
@click.option(
    "--hours",
    type=click.FloatRange(0, 24 * 3650, min_open=True),
    help="The token expires after this many hours. Default: 24 for join, otherwise never.",
)
@click.option("--wallet", default="", help="For rater: the wallet of the rater, whose own nodes it cannot rate.")
@config_option
@_state_dir
def create(
    role: str,
    label: str,
    uses: Optional[int],
    any_number: bool,
    hours: Optional[float],
    wallet: str,
    config: Optional[str],
    state_dir: Optional[str],
) -> int:
    """Create a token and print it.

    ROLE is join, reader, rater or operator. The token is printed only once, because only its hash is kept.
    """
    import time

    from registry_core.models import limits

    if role != "join" and (uses is not None or any_number):
        raise click.UsageError("--uses and --any-number are for join tokens")
    if uses is not None and any_number:
        raise click.UsageError("--uses and --any-number exclude each other")
    if role != "rater" and wallet:
        raise click.UsageError("--wallet is for rater tokens")
    limits.text("label", label, "reason")
    limits.text("wallet", wallet, "wallet_address")
    if role == "join":
        uses = None if any_number else (uses or 1)
        hours = hours if hours is not None else 24.0
    lifetime = None if hours is None else hours * _HOUR
    with _token_store(config, state_dir) as tokens:
        row, secret = tokens.create(role, time.time(), label=label, wallet=wallet, lifetime_seconds=lifetime, uses=uses)
    say(secret)
    where = f"at the coordinator in {_folder(config, state_dir)}"
    say(f"token {row.id} ({role}) {where}, {_terms(row)}; it is not shown again", err=True)
    return 0


@token.command("list")
@format_option
@config_option
@_state_dir
def list_tokens(output: str, config: Optional[str], state_dir: Optional[str]) -> int:
    """List the tokens without their secrets."""
    import time
    from dataclasses import asdict

    with _token_store(config, state_dir) as tokens:
        rows = tokens.tokens()
    now = time.time()
    if output == "json":
        plain = [{**asdict(row), "valid": row.is_valid(now)} for row in rows]
        print_json({"schema": "duxnet.tokens/1.0", "tokens": plain})
    else:
        header = ("ID", "ROLE", "STATE", "USED", "EXPIRES", "LABEL")
        print_table(header, (_row(row, now) for row in rows), right=("ID",))
    return 0


@token.command("revoke")
@click.argument("number", type=int)
@config_option
@_state_dir
def revoke(number: int, config: Optional[str], state_dir: Optional[str]) -> int:
    """Revoke a token at once.

    NUMBER is the ID of `duxnet token list`.
    """
    import time

    with _token_store(config, state_dir) as tokens:
        if not tokens.revoke(number, time.time()):
            raise click.ClickException(f"there is no valid token {number}; `duxnet token list` shows all")
    say(f"token {number} is revoked")
    return 0


def _row(row: TokenRow, now: float) -> tuple[str, ...]:
    used = "" if row.role != "join" else f"{row.used} of {row.uses if row.uses is not None else 'any'}"
    expires = time_text(row.expires) if row.expires is not None else "never"
    return str(row.id), row.role, _state(row, now), used, expires, row.label


def _terms(row: TokenRow) -> str:
    """How long the token is valid and for how many nodes."""
    lifetime = "valid until revoked" if row.expires is None else f"valid until {time_text(row.expires)}"
    if row.role != "join":
        return lifetime
    nodes = "any number of nodes" if row.uses is None else f"{row.uses} node{'s' if row.uses > 1 else ''}"
    return f"{lifetime} for {nodes}"


def _state(row: TokenRow, now: float) -> str:
    if row.revoked is not None:
        return "revoked"
    if not row.is_valid(now):
        return "expired"
    return "used up" if row.uses is not None and row.used >= row.uses else "valid"


@contextmanager
def _token_store(config: Optional[str], state_dir: Optional[str]) -> Iterator[TokenStore]:
    """Open the tokens of the configured coordinator, which must have been started once."""
    from duxnet.coordinator.access.token_store import COORDINATOR_DB, TokenStore

    path = _folder(config, state_dir) / COORDINATOR_DB
    if not path.exists():
        raise click.ClickException(
            f"{path} does not exist: start the coordinator once, or name its folder with --state-dir"
        )
    tokens = TokenStore(path)
    try:
        yield tokens
    finally:
        tokens.close()


def _folder(config: Optional[str], state_dir: Optional[str]) -> Path:
    """The state directory of the coordinator. Default: the configured one."""
    import os

    from duxnet.coordinator.settings import CoordinatorSettings
    from duxnet.process.settings import load_settings

    flags = {"coordinator.state_dir": state_dir}
    settings = load_settings({"coordinator": CoordinatorSettings}, config=config, flags=flags)
    return settings.section("coordinator", CoordinatorSettings).state_path(os.environ)
