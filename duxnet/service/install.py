"""Installs and removes a unit: first a plan that can be shown, then the files, then systemd.

Here: which files there are and in which order systemd reads them. Not here: their text (`units`), and the check that
the unit can start at all (`placement`). With a `root` other than /, files are written below it and nothing is started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from duxnet.process.errors import CommandError
from duxnet.service import systemctl
from duxnet.service.units import AGENT, GPU_DROP_IN, NETWORK_DROP_IN, Unit, gpu_text, network_text, unit_text
from registry_core.errors import StoreError, reason_of
from registry_core.files.atomic import replace_by_link, replace_file

__all__ = ["Choices", "PlannedFile", "Say", "install", "plan_files", "uninstall"]

Say = Callable[[str], None]
UNIT_FOLDER = Path("etc/systemd/system")
EVERYWHERE = "any"  # alone in `allowed`, it removes the allow-list
# Vendors whose drivers the probe queries through device files: NVIDIA, AMD, Intel.
_VENDORS = {"0x10de", "0x1002", "0x8086"}
# PCI classes: VGA, 3D, other display, co-processor, and all of class 12, processing accelerators.
_CLASSES = ("0x0300", "0x0302", "0x0380", "0x0b40", "0x12")


@dataclass(frozen=True)
class Choices:
    """The options of the operator. `gpu` None depends on the machine; an empty `allowed` keeps an existing list."""

    root: Path = Path("/")
    dry_run: bool = False
    start: bool = True
    gpu: Optional[bool] = None
    allowed: Sequence[str] = ()

    @property
    def live(self) -> bool:
        """Whether the systemd of this machine acts on the change."""
        return self.root == Path("/") and not self.dry_run


@dataclass(frozen=True)
class PlannedFile:
    """A file as planned: with a text, as a link to a target, or with neither if it is to be removed."""

    path: Path
    text: Optional[str] = None
    link_to: Optional[str] = None

    def is_done(self) -> bool:
        """Whether the file is already as planned."""
        if self.link_to is not None:
            return self.path.is_symlink() and str(self.path.readlink()) == self.link_to
        if self.text is not None:
            return self.path.is_file() and not self.path.is_symlink() and self.path.read_text("utf-8") == self.text
        return not os.path.lexists(self.path)

    def apply(self) -> None:
        """Write or remove the file. A unit is replaced in one step, so that systemd never reads half of it."""
        if self.text is None and self.link_to is None:
            self.path.unlink()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if self.link_to is not None:
            replace_by_link(self.path, self.link_to)
        else:
            replace_file(self.path, (self.text or "").encode("utf-8"), 0o644)


def plan_files(unit: Unit, command: Path, choices: Choices, groups: Collection[str]) -> Sequence[PlannedFile]:
    """The files of an installed unit. A drop-in of an earlier call that no option names now is kept and updated."""
    folder = choices.root / UNIT_FOLDER
    drop_ins = folder / f"{unit.service}.d"
    files = [
        PlannedFile(folder / unit.service, unit_text(unit, command)),
        PlannedFile(_enabling_link(choices.root, unit), link_to=f"/{UNIT_FOLDER}/{unit.service}"),
    ]
    if unit == AGENT:
        gpu_file = drop_ins / GPU_DROP_IN
        wanted = choices.gpu
        if wanted is None:
            wanted = gpu_file.exists() or has_gpu(choices.root)
        files.append(PlannedFile(gpu_file, gpu_text(groups) if wanted else None))
    if choices.allowed:
        text = None if tuple(choices.allowed) == (EVERYWHERE,) else network_text(choices.allowed)
        files.append(PlannedFile(drop_ins / NETWORK_DROP_IN, text))
    return files


def install(unit: Unit, command: Path, choices: Choices, say: Say) -> None:
    """Write the files that differ, enable and start (after an upgrade restart) the unit, and wait until it is active.

    Each change is reported with `say`. A second call changes nothing. Raises CommandError.
    """
    changed = _apply(plan_files(unit, command, choices, _groups(choices.root)), choices, say)
    if choices.live and systemctl.is_running():
        if changed:
            systemctl.systemctl("daemon-reload")
            say("systemd has reloaded its units")
        if choices.start:
            _start(unit, command, changed, say)
    elif choices.live:
        say("systemd does not run on this machine: nothing was started")


def uninstall(unit: Unit, choices: Choices, purge: bool, say: Say) -> None:
    """Stop the service and remove what `install` wrote, with `purge` also its state. Raises CommandError."""
    folder = choices.root / UNIT_FOLDER
    drop_ins = folder / f"{unit.service}.d"
    acts = choices.live and systemctl.is_running()
    if acts and (folder / unit.service).exists():
        systemctl.systemctl("disable", "--now", unit.service)
        say(f"stopped {unit.service}")
    gone = [_enabling_link(choices.root, unit), folder / unit.service]
    gone += [drop_ins / GPU_DROP_IN, drop_ins / NETWORK_DROP_IN]
    changed = _apply([PlannedFile(path) for path in gone], choices, say)
    _remove_folder(drop_ins, choices, say)
    if acts and changed:
        systemctl.systemctl("daemon-reload")
        say("systemd has reloaded its units")
    _remove_state(unit, choices, purge, say)


def _apply(files: Sequence[PlannedFile], choices: Choices, say: Say) -> bool:
    """Make or print the changes, and return whether there were any."""
    changed = False
    for file in files:
        removal = file.text is None and file.link_to is None
        if file.is_done():
            if not removal:
                say(f"unchanged {file.path}")
            continue
        changed = True
        if not choices.dry_run:
            try:
                file.apply()
            except (OSError, StoreError) as error:
                reason = str(error) if isinstance(error, StoreError) else f"{file.path}: {reason_of(error)}"
                raise CommandError(reason, "Installing needs root and a writable /etc: use sudo.") from None
        verb = ("remove" if removal else "write") if choices.dry_run else ("removed" if removal else "wrote")
        say(f"{'would ' if choices.dry_run else ''}{verb} {file.path}")
    return changed


def _start(unit: Unit, command: Path, changed: bool, say: Say) -> None:
    state = systemctl.properties(unit.service, ["ActiveState", "ExecMainStartTimestampMonotonic"])
    if state["ActiveState"] == "active" and not changed and not _is_older(state, command):
        say(f"{unit.service} is already active")
        return
    # A stop first, so that earlier failures do not delay this start.
    systemctl.systemctl("stop", unit.service)
    try:
        systemctl.systemctl("start", unit.service)
    except CommandError as error:
        lines = "\n".join(f"  {line}" for line in systemctl.journal_tail(unit.service, lines=15))
        raise CommandError(
            f"{unit.service} did not become active ({error.reason}). Its newest messages:\n{lines}",
            "`duxnet doctor` finds the cause; `duxnet config check` checks only the configuration.",
        ) from None
    say(f"{unit.service} is active")


def _is_older(state: Mapping[str, str], command: Path) -> bool:
    """Whether the process started before the last installation of the package, and so runs an older version."""
    import time

    from registry_core import version

    process_age_seconds = time.monotonic() - int(state["ExecMainStartTimestampMonotonic"] or 0) / 1e6
    installed_at = max(path.stat().st_ctime for path in (command, Path(version.__file__)))
    return time.time() - installed_at < process_age_seconds


def _enabling_link(root: Path, unit: Unit) -> Path:
    return root / UNIT_FOLDER / "multi-user.target.wants" / unit.service


def _remove_folder(folder: Path, choices: Choices, say: Say) -> None:
    if not folder.is_dir() or choices.dry_run:
        return
    kept = sorted(path.name for path in folder.iterdir())
    if kept:
        say(f"kept {folder}: it has your own settings ({', '.join(kept)})")
        return
    folder.rmdir()
    say(f"removed {folder}")


def _remove_state(unit: Unit, choices: Choices, purge: bool, say: Say) -> None:
    """Remove the state, or report that it is kept.

    /var/lib/NAME is a link to /var/lib/private/NAME if the unit ran with a dynamic user.
    """
    var_lib = choices.root / "var/lib"
    places = [
        path for path in (var_lib / unit.directory, var_lib / "private" / unit.directory) if os.path.lexists(path)
    ]
    for path in places:
        if not purge:
            say(f"kept {path}: the identity and the registry (--purge removes them)")
            return
        if choices.dry_run:
            say(f"would remove {path}")
            continue
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
        say(f"removed {path}")


def has_gpu(root: Path) -> bool:
    """Whether there is a driver's device file or a GPU on the PCI bus below `root`, so that the unit needs access."""
    if any((root / "dev" / name).exists() for name in ("nvidiactl", "kfd")):
        return True
    return any(_is_gpu(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_gpu(device: Path) -> bool:
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
        kind = (device / "class").read_text(encoding="ascii").strip()
    except OSError:  # unplugged meanwhile
        return False
    return vendor in _VENDORS and kind.startswith(_CLASSES)


def _groups(root: Path) -> Collection[str]:
    try:
        lines = (root / "etc/group").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return {line.partition(":")[0] for line in lines}
