"""Checks that a sandboxed unit can start the command from where it is installed, and says what to type if not.

The unit hides /home, /root and /tmp and runs as a user of its own. An interpreter there fails with 203/EXEC and a
package there with an ImportError, neither of which explains the cause in the journal.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from duxnet.process.errors import CommandError
from duxnet.service.units import COORDINATOR, Unit

__all__ = ["Placement", "check_placement", "closed_to_others", "current_placement"]

# ProtectHome= hides the first three, PrivateTmp= the last two.
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - not used as a folder


@dataclass(frozen=True)
class Placement:
    """Where the parts of an installation are. `checkout` is the source folder if the program runs from one."""

    command: Path
    interpreter: Path
    library: Path
    package: Path
    checkout: Optional[Path]

    def parts(self) -> Iterable[tuple[str, Path]]:
        """The paths that the unit must be able to read, each with its name."""
        return (
            ("the command", self.command),
            ("the Python interpreter", self.interpreter),
            ("its standard library", self.library),
            ("the package", self.package),
        )


def current_placement() -> Placement:
    """The placement of the running program."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent if (package.parent / "pyproject.toml").is_file() else None
    command = Path(sysconfig.get_path("scripts")) / "duxnet"
    return Placement(command, Path(sys.executable).resolve(), Path(os.__file__).resolve().parent, package, checkout)


def check_placement(placement: Placement, unit: Unit, hidden: Iterable[Path] = HIDDEN) -> None:
    """Return if a unit can start from there. Raises CommandError with commands that install it where a unit can."""
    hidden = tuple(hidden)
    for words, path in placement.parts():
        for folder in hidden:
            if path.is_relative_to(folder) or path.resolve().is_relative_to(folder):
                raise CommandError(
                    f"{words} is below {folder} ({path}), where a sandboxed unit cannot start it",
                    remedy(placement, unit),
                )
    for words, path in placement.parts():
        if not path.exists():
            raise CommandError(f"{words} does not exist at {path}", remedy(placement, unit))
        closed = closed_to_others(path)
        if closed is not None:
            raise CommandError(
                f"the unit's own user cannot read {words} ({path}): {closed} is closed to other users",
                f"Open it to other users:\n  sudo chmod -R go+rX {closed}",
            )


def remedy(placement: Placement, unit: Unit) -> str:
    """The commands for a virtual environment, and those for pipx."""
    extra = "[coordinator]" if unit == COORDINATOR else ""
    # Never the package's bare name: an index may give another's package of that name to a command that runs as root.
    source = str(placement.checkout) if placement.checkout is not None else "SOURCE"
    wanted = f"'{source}{extra}'"
    where = "" if placement.checkout is not None else "; SOURCE is the checkout or wheel that DuxNet came from"
    return (
        f"Install it for all users, with a system Python (package python3-venv{where}):\n"
        f"  sudo /usr/bin/python3 -m venv /opt/duxnet && sudo /opt/duxnet/bin/pip install {wanted}\n"
        f"  sudo /opt/duxnet/bin/{unit.install_command}\n"
        "or with pipx:\n"
        f"  sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install --python /usr/bin/python3 {wanted}\n"
        f"  sudo /usr/local/bin/{unit.install_command}"
    )


def closed_to_others(path: Path) -> Optional[Path]:
    """The first folder of `path` that an unrelated user cannot enter, or `path` if it cannot be read; else None."""
    for folder in (*reversed(path.resolve().parents), path.resolve()):
        mode = folder.stat().st_mode
        needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & needed:
            return folder
    return None
