"""`duxnet registry`: checks, copies, moves and seals the file of a registry.

Here: options, progress and what is printed. Not here: the work itself (`registry_core.storage.maintenance`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from agent.status_line import StatusLine
from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import config_option, format_option
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from registry_core.storage.maintenance.verify import Verification
    from registry_core.storage.state_sum import SumKey

__all__ = ["registry"]

_BETWEEN_PROGRESS_SECONDS = 0.1
EXIT_DAMAGED = 1
EXIT_ROLLED_BACK = 3

_path = click.Path(path_type=Path)
_key_file = click.option(
    "--key-file",
    type=_path,
    metavar="FILE",
    help="Read the encryption keys from this file, the newest first. Default: the systemd credential "
    "registry-encryption-key, else registry.encryption_key_file of the configuration, else "
    "$DUXNET_REGISTRY_ENCRYPTION_KEY.",
)
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the file at the target.")


@click.group("registry", cls=SuggestingGroup)
def registry() -> None:
    """Check, back up, restore, move or seal the file of a registry, or a whole state folder.

    `verify` and `backup` work while an agent or a coordinator uses the registry; the other commands need it stopped.
    A sealed (encrypted) registry stays sealed in every copy. Keys come from files and never from the command line,
    where every user could read them.
    """


@registry.command("verify")
@click.argument("path", type=_path, required=False)
@_key_file
@config_option
@format_option
def verify_command(path: Optional[Path], key_file: Optional[Path], config: Optional[str], output: str) -> int:
    """Read the whole registry and check it.

    The default for PATH is the registry of the agent on this machine. PATH may be a state folder: then its tokens and
    keys are checked too. The exit code is 0 if the registry is whole and 1 if it is damaged; each damaged place is
    named. It is 3 if the registry is whole up to the last commit but the log fails its checksum after that, as a
    process leaves it that was killed while it wrote.
    """
    from duxnet.cli.registry_client import keys_of
    from registry_core.storage.maintenance.verify import verify

    place = path or _default_path(config)
    if place.is_dir():
        return _verify_folder(place, key_file, config, output)
    with _progress("checked", "nodes") as progress:
        keys = keys_of(place, key_file, config, needed=False)
        found = verify(place, keys, progress, sum_key=_sum_key_beside(place))
    _print_verification(found, output)
    return _verification_code(found)


def _verify_folder(folder: Path, key_file: Optional[Path], config: Optional[str], output: str) -> int:
    from duxnet.cli.registry_client import keys_of
    from duxnet.coordinator.access.state_folder import REGISTRIES, verify_folder

    with _progress("checked", "nodes") as progress:
        path = next((folder / name for name in REGISTRIES if (folder / name).exists()), None)
        keys = None if path is None else keys_of(path, key_file, config, needed=False)
        found = verify_folder(folder, keys, progress)
    return _print_folder(str(folder), found, output)


def _sum_key_beside(path: Path) -> Optional[SumKey]:
    """The key of the sums that follows from the key of the coordinator whose registry this is."""
    from duxnet.coordinator.access.own_identity import KEY_FILE, identity_of
    from registry_core.identity.keys import load_private_key
    from registry_core.storage.state_sum import SumKey

    key_file = path.parent / KEY_FILE
    return SumKey(identity_of(load_private_key(key_file)).sum_key) if key_file.exists() else None


@registry.command("backup")
@click.argument("source", type=_path)
@click.argument("target", type=_path)
@_overwrite
@click.option("--with-keys", is_flag=True, help="Copy the keys and operator.token of a state folder too.")
@format_option
def backup_command(source: Path, target: Path, overwrite: bool, with_keys: bool, output: str) -> int:
    """Copy the registry SOURCE to TARGET and check the copy.

    The copy has everything up to the last commit. SOURCE may be a state folder; then TARGET is a folder that holds
    nothing else. Keys and operator.token are copied only with --with-keys. Keep a copy of the keys in another place:
    a coordinator or node without its key becomes a different one.
    """
    if source.is_dir():
        return _back_up_folder(source, target, overwrite, with_keys, output)
    if with_keys:
        raise click.UsageError("--with-keys is for a state folder")
    from registry_core.storage.maintenance.backup import backup

    with _progress("copied", "pages") as progress:
        found = backup(source, target, overwrite=overwrite, progress=progress)
    _print_verification(found, output)
    return _verification_code(found)


def _back_up_folder(source: Path, target: Path, overwrite: bool, with_keys: bool, output: str) -> int:
    from duxnet.coordinator.access.state_folder import back_up_folder

    with _progress("copied", "pages") as progress:
        made = back_up_folder(source, target, secrets=with_keys, overwrite=overwrite, progress=progress)
    lists = {"copied": list(made.copied), "left_out": list(made.left_out)}
    return _print_folder(made.path, made.found, output, **lists)


@registry.command("restore")
@click.argument("backup", type=_path)
@click.argument("target", type=_path)
@_overwrite
@format_option
def restore_command(backup: Path, target: Path, overwrite: bool, output: str) -> int:
    """Check BACKUP and put it in the place of TARGET.

    With --overwrite the previous registry is kept beside it, under a name with the time. BACKUP and TARGET may be
    state folders: registry and tokens are replaced; keys and other files are copied only if TARGET has none.
    """
    if backup.is_dir():
        return _restore_folder(backup, target, overwrite, output)
    from registry_core.storage.maintenance.backup import restore

    with _progress("checked", "nodes") as progress:
        aside = restore(backup, target, overwrite=overwrite, progress=progress)
    _answer(output, "restoration", {"restored": str(target), "kept": None if aside is None else str(aside)})
    return 0


def _restore_folder(backup: Path, target: Path, overwrite: bool, output: str) -> int:
    from duxnet.coordinator.access.state_folder import restore_folder

    with _progress("checked", "nodes") as progress:
        kept, missing = restore_folder(backup, target, overwrite=overwrite, progress=progress)
    if missing:
        say(f"before the next start, put {' and '.join(missing)} into {target}", err=True)
    _answer(output, "restoration", {"restored": str(target), "kept": ", ".join(kept.values()) or None})
    return 0


@registry.command("migrate")
@click.argument("source", type=_path)
@click.argument("target", type=_path)
@_key_file
@click.option("--to-key-file", type=_path, metavar="FILE", help="Seal the target with the first key of this file.")
@click.option("--to-clear", is_flag=True, help="Do not seal the target, even if the source is sealed.")
@config_option
@format_option
def migrate_command(
    source: Path,
    target: Path,
    key_file: Optional[Path],
    to_key_file: Optional[Path],
    to_clear: bool,
    config: Optional[str],
    output: str,
) -> int:
    """Convert the registry SOURCE to TARGET: .json, .db or sealed.

    SOURCE is left as it is. Without --to-key-file and --to-clear, a sealed registry stays sealed with the same keys.
    """
    from duxnet.cli.registry_client import keys_of
    from registry_core.storage.key_sources import read_key_file
    from registry_core.storage.maintenance.migrate import migrate

    if to_clear and to_key_file is not None:
        raise click.UsageError("--to-clear and --to-key-file exclude each other")
    keys = keys_of(source, key_file, config, needed=True)
    target_keys = None if to_clear else keys if to_key_file is None else read_key_file(to_key_file)
    with _progress("moved", "nodes") as progress:
        count = migrate(source, target, source_keys=keys, target_keys=target_keys, progress=progress)
    _answer(output, "migration", {"nodes": count, "target": str(target), "sealed": target_keys is not None})
    return 0


@registry.command("rotate-key")
@click.argument("path", type=_path, required=False)
@click.option("--generate", is_flag=True, help="Make a new key first and put it at the beginning of the key file.")
@_key_file
@config_option
@format_option
def rotate_key_command(
    path: Optional[Path], generate: bool, key_file: Optional[Path], config: Optional[str], output: str
) -> int:
    """Seal everything again with the newest key.

    This may be interrupted and repeated. Afterwards only earlier backups need the older keys.
    """
    from duxnet.cli.local_agent import find_local_agent
    from duxnet.cli.registry_client import keys_of
    from duxnet.process.errors import CommandError
    from registry_core.files.locks import lock_beside
    from registry_core.files.opening import own_place
    from registry_core.storage.key_sources import read_key_file, write_key_file
    from registry_core.storage.maintenance.migrate import rotate_key
    from registry_core.storage.sealing import KeyRing, SealingKey

    place = path or _default_path(config)
    keys = keys_of(place, key_file, config, needed=True)
    if keys is None:
        raise CommandError(f"{place} is not sealed", "`duxnet registry migrate --to-key-file FILE` seals it.")
    if generate:
        file = key_file or find_local_agent(config).key_file
        if file is None:
            raise click.UsageError("--generate needs a key file to write to: --key-file")
        real = own_place(place, "the folder of a registry", own=False)
        lock_beside(real).release()  # raises while a process has it open, so that no new key is made
        keys = KeyRing((SealingKey.generate(), *read_key_file(file).keys))
        write_key_file(file, keys)
    with _progress("resealed", "nodes") as progress:
        count = rotate_key(place, keys, progress)
    _answer(output, "rotation", {"sealed_anew": count, "key": keys.newest.id.hex()})
    return 0


@registry.command("new-key")
@click.argument("file", type=_path)
def new_key_command(file: Path) -> int:
    """Make a new encryption key in FILE.

    FILE must not exist. Only its owner can read it. Prints the id of the key.
    """
    from registry_core.files.atomic import refuse_existing
    from registry_core.storage.key_sources import write_key_file
    from registry_core.storage.sealing import KeyRing, SealingKey

    refuse_existing(file)
    key = SealingKey.generate()
    write_key_file(file, KeyRing((key,)))
    say(key.id.hex())
    return 0


@contextmanager
def _progress(done_word: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows progress: one line on standard error if that is a terminal, otherwise nothing."""
    line = StatusLine() if sys.stderr.isatty() else None  # noqa: TID251 - only a query
    due = 0.0

    def show(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if line is not None and now >= due:
            due = now + _BETWEEN_PROGRESS_SECONDS
            share = 100 * done // total if total else 100
            line.show(f"{done_word} {done:,} of {total:,} {things} ({share} %)")

    try:
        yield show
    finally:
        if line is not None:
            line.end()


def _default_path(config: Optional[str]) -> Path:
    from agent.open_registry import is_address
    from duxnet.cli.registry_client import find_target

    target = find_target(None, config).target
    if is_address(target):
        raise click.UsageError(f"{target} is an address; name the file of a registry")
    return Path(target)


def _print_folder(folder: str, found: Sequence[Verification], output: str, **lists: list[str]) -> int:
    if output == "json":
        from duxnet.cli.output import print_json

        files = [each.to_plain() for each in found]
        whole = all(each.is_whole for each in found)
        print_json({"schema": "duxnet.state-folder/1.0", "path": folder, "is_whole": whole, **lists, "files": files})
    else:
        from duxnet.cli.output import print_pairs

        print_pairs([(name.replace("_", " "), ", ".join(names)) for name, names in lists.items() if names])
        for each in found:
            _print_verification(each, output)
    codes = [_verification_code(each) for each in found]
    return EXIT_DAMAGED if EXIT_DAMAGED in codes else max(codes, default=0)


def _print_verification(found: Verification, output: str) -> None:
    if output == "json":
        from duxnet.cli.output import print_json

        print_json(found.to_plain())
        return
    from duxnet.cli.output import print_pairs, time_text

    pairs = [(found.kind if found.kind in ("tokens", "key") else "registry", found.path)]
    if found.kind not in ("tokens", "key"):
        pairs.append(("kind", found.kind))
    if found.schema:  # not known for a file that is sealed as a whole, without its key
        pairs += [("schema", found.schema), ("nodes", f"{found.nodes:,}")]
    if found.sealed_with:
        pairs.append(("sealed with key", ", ".join(found.sealed_with)))
    if found.last_commit is not None:
        pairs.append(("last commit", f"number {found.last_commit}"))
    if found.last_commit_at is not None:
        pairs.append(("committed at", time_text(found.last_commit_at)))
    pairs += [("note", note) for note in found.notes]
    pairs += [("DAMAGED", damage) for damage in found.damage]
    pairs.append(("whole", "yes" if found.is_whole else "no"))
    print_pairs(pairs)


def _verification_code(found: Verification) -> int:
    if not found.is_whole:
        return EXIT_DAMAGED
    return EXIT_ROLLED_BACK if found.log_is_damaged else 0


def _answer(output: str, what: str, plain: dict[str, Any]) -> None:
    from duxnet.cli.output import print_json, print_pairs, value_text

    if output == "json":
        print_json({"schema": f"duxnet.{what}/1.0", **plain})
    else:
        print_pairs([(name.replace("_", " "), value_text(value)) for name, value in plain.items() if value is not None])
