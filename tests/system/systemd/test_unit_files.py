"""The units as they are installed: systemd understands every line, and they are as closed as we say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from duxnet.service.install import Choices, plan_files
from duxnet.service.units import AGENT, COORDINATOR, Unit, gpu_text, network_text, unit_text
from tests.support.requirements import need_program

UNIT_FOLDER = Path("etc/systemd/system")


@pytest.fixture
def analyze() -> str:
    return need_program("systemd-analyze", "systemd")


def installed(unit: Unit, root: Path, choices: Choices) -> Path:
    """The unit file below `root`, as an installation writes it, starting a program that exists."""
    program = shutil.which("true")
    assert program is not None
    for file in plan_files(unit, Path(program), choices, groups={"video", "render"}):
        if not file.is_done():
            file.apply()
    return root / UNIT_FOLDER / unit.service


def exposure(analyze: str, unit_file: Path) -> float:
    command = [analyze, "security", "--offline=true", "--no-pager", str(unit_file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    return float(found.group(1))


VARIANTS = [
    (AGENT, False, ()),
    (AGENT, True, ()),
    (AGENT, True, ("203.0.113.7", "10.0.0.0/8", "2001:db8::/32")),
    (COORDINATOR, False, ()),
    (COORDINATOR, False, ("10.0.0.0/8",)),
]


@pytest.mark.parametrize(("unit", "gpu", "allowed"), VARIANTS)
def test_systemd_understands_every_line(
    unit: Unit, gpu: bool, allowed: tuple[str, ...], analyze: str, tmp_path: Path
) -> None:
    unit_file = installed(unit, tmp_path, Choices(root=tmp_path, gpu=gpu, allowed=allowed))
    result = subprocess.run([analyze, "verify", str(unit_file)], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("unit", "gpu", "most"), [(AGENT, False, 1.3), (AGENT, True, 1.5), (COORDINATOR, False, 2.0)])
def test_the_units_are_as_closed_as_promised(unit: Unit, gpu: bool, most: float, analyze: str, tmp_path: Path) -> None:
    unit_file = installed(unit, tmp_path, Choices(root=tmp_path, gpu=gpu))
    assert exposure(analyze, unit_file) <= most


def test_an_allow_list_closes_a_unit_further(analyze: str, tmp_path: Path) -> None:
    open_unit = installed(AGENT, tmp_path / "a", Choices(root=tmp_path / "a", gpu=False))
    closed_unit = installed(AGENT, tmp_path / "b", Choices(root=tmp_path / "b", gpu=False, allowed=("10.0.0.1",)))
    assert exposure(analyze, closed_unit) < exposure(analyze, open_unit)


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_each_unit_has_a_state_directory_of_its_own() -> None:
    places = [values(unit_text(unit, Path("/x/duxnet")), "StateDirectory") for unit in (AGENT, COORDINATOR)]
    assert places == [["duxnet-agent"], ["duxnet-coordinator"]]


@pytest.mark.parametrize("unit", [AGENT, COORDINATOR])
def test_no_credential_is_named_by_an_absolute_path_whose_absence_would_fail_the_unit(unit: Unit) -> None:
    credentials = values(unit_text(unit, Path("/x/duxnet")), "LoadCredential")
    assert credentials
    assert not [line for line in credentials if "/" in line]


@pytest.mark.parametrize("unit", [AGENT, COORDINATOR])
def test_only_the_path_of_the_command_differs_from_the_packaged_unit(unit: Unit) -> None:
    assert values(unit_text(unit, Path("/opt/duxnet/bin/duxnet")), "ExecStart") == [
        f"/opt/duxnet/bin/duxnet {unit.role}"
    ]
    packaged, moved = (unit_text(unit, Path(f"{place}/duxnet")).splitlines() for place in ("/opt/duxnet/bin", "/srv/a"))
    assert [line for line in moved if line not in packaged] == [f"ExecStart=/srv/a/duxnet {unit.role}"]


def test_a_path_with_a_space_or_a_percent_sign_is_still_one_command(analyze: str, tmp_path: Path) -> None:
    command = tmp_path / "a b%n" / "duxnet"
    command.parent.mkdir()
    command.symlink_to(shutil.which("true") or "")
    unit_file = tmp_path / AGENT.service
    unit_file.write_text(unit_text(AGENT, command))
    result = subprocess.run([analyze, "verify", str(unit_file)], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_gpu_drop_in_names_only_groups_that_exist() -> None:
    assert values(gpu_text({"video", "render"}), "SupplementaryGroups") == ["render video"]
    assert values(gpu_text({"video"}), "SupplementaryGroups") == ["video"]
    assert values(gpu_text(()), "SupplementaryGroups") == []


def test_an_allow_list_holds_what_was_given_and_loopback() -> None:
    text = network_text(["203.0.113.7", "2001:db8::/32"])
    assert values(text, "IPAddressDeny") == ["any"]
    assert values(text, "IPAddressAllow") == ["localhost", "203.0.113.7/32", "2001:db8::/32"]
