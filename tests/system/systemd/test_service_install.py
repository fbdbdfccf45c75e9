"""Installing below a root folder, without systemd: what is written, said, kept, refused."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from duxnet.process.errors import CommandError
from duxnet.service.install import Choices, install, uninstall
from duxnet.service.placement import Placement, check_placement
from duxnet.service.units import AGENT, COORDINATOR, Unit

COMMAND = Path("/opt/duxnet/bin/duxnet")
UNITS = Path("etc/systemd/system")


def files_below(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def said_by_install(unit: Unit, choices: Choices, command: Path = COMMAND) -> list[str]:
    said: list[str] = []
    install(unit, command, choices, said.append)
    return said


def said_by_uninstall(unit: Unit, choices: Choices, *, purge: bool = False) -> list[str]:
    said: list[str] = []
    uninstall(unit, choices, purge, said.append)
    return said


@pytest.mark.parametrize("unit", [AGENT, COORDINATOR])
def test_a_unit_is_written_enabled_and_removed_without_a_trace(unit: Unit, tmp_path: Path) -> None:
    said = said_by_install(unit, Choices(root=tmp_path))
    files = files_below(tmp_path)
    assert f"ExecStart=/opt/duxnet/bin/duxnet {unit.role}\n" in files[f"{UNITS}/{unit.service}"]
    assert files[f"{UNITS}/multi-user.target.wants/{unit.service}"] == f"/{UNITS}/{unit.service}"
    assert [line.split()[0] for line in said] == ["wrote", "wrote"]
    said_by_uninstall(unit, Choices(root=tmp_path))
    assert files_below(tmp_path) == {}


def test_the_second_installation_changes_nothing(tmp_path: Path) -> None:
    said_by_install(AGENT, Choices(root=tmp_path, gpu=True, allowed=("10.0.0.1",)))
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    said = said_by_install(AGENT, Choices(root=tmp_path))
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert {line.split()[0] for line in said} == {"unchanged"}


def test_installing_from_another_place_moves_the_unit(tmp_path: Path) -> None:
    said_by_install(AGENT, Choices(root=tmp_path))
    said = said_by_install(AGENT, Choices(root=tmp_path), Path("/opt/pipx/venvs/duxnet-registry/bin/duxnet"))
    assert (
        "ExecStart=/opt/pipx/venvs/duxnet-registry/bin/duxnet agent" in (tmp_path / UNITS / AGENT.service).read_text()
    )
    assert said[0] == f"wrote {tmp_path / UNITS / AGENT.service}"


def test_a_dry_run_says_it_and_changes_nothing(tmp_path: Path) -> None:
    said = said_by_install(AGENT, Choices(root=tmp_path, dry_run=True, gpu=True))
    assert list(tmp_path.iterdir()) == []
    assert said == [
        f"would write {tmp_path / UNITS / name}"
        for name in (AGENT.service, f"multi-user.target.wants/{AGENT.service}", f"{AGENT.service}.d/gpu.conf")
    ]
    said_by_install(AGENT, Choices(root=tmp_path))
    before = files_below(tmp_path)
    assert f"would remove {tmp_path / UNITS / AGENT.service}" in said_by_uninstall(
        AGENT, Choices(root=tmp_path, dry_run=True), purge=True
    )
    assert files_below(tmp_path) == before


def gpu_on_the_bus(root: Path, vendor: str, kind: str) -> None:
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("vendor", "kind", "opened"),
    [
        ("0x10de", "0x030200", True),
        ("0x1002", "0x120000", True),
        ("0x8086", "0x020000", False),  # a network card
        ("0x1234", "0x030000", False),  # a virtual display
    ],
)
def test_devices_are_opened_where_there_is_a_gpu(vendor: str, kind: str, opened: bool, tmp_path: Path) -> None:
    gpu_on_the_bus(tmp_path, vendor, kind)
    said_by_install(AGENT, Choices(root=tmp_path))
    assert (tmp_path / UNITS / f"{AGENT.service}.d/gpu.conf").exists() is opened


def test_no_gpu_takes_the_drop_in_away(tmp_path: Path) -> None:
    gpu_on_the_bus(tmp_path, "0x10de", "0x030000")
    said_by_install(AGENT, Choices(root=tmp_path))
    said_by_install(AGENT, Choices(root=tmp_path, gpu=False))
    assert not (tmp_path / UNITS / f"{AGENT.service}.d/gpu.conf").exists()


def test_settings_of_the_operator_are_kept_and_named(tmp_path: Path) -> None:
    said_by_install(AGENT, Choices(root=tmp_path, gpu=True))
    own = tmp_path / UNITS / f"{AGENT.service}.d/override.conf"
    own.write_text("[Service]\nNice=5\n")
    said = said_by_uninstall(AGENT, Choices(root=tmp_path))
    assert files_below(tmp_path) == {str(own.relative_to(tmp_path)): "[Service]\nNice=5\n"}
    assert any("override.conf" in line for line in said)


def test_state_is_kept_until_its_removal_is_asked_for(tmp_path: Path) -> None:
    private = tmp_path / "var/lib/private/duxnet-agent"
    private.mkdir(parents=True)
    (private / "node.key").write_text("key")
    (tmp_path / "var/lib/duxnet-agent").symlink_to("private/duxnet-agent")
    said_by_install(AGENT, Choices(root=tmp_path))
    said = said_by_uninstall(AGENT, Choices(root=tmp_path))
    assert (private / "node.key").read_text() == "key"
    assert any(line.startswith("kept") and "--purge" in line for line in said)
    said_by_uninstall(AGENT, Choices(root=tmp_path), purge=True)
    assert files_below(tmp_path) == {}
    assert not private.exists()


def test_removing_what_is_not_installed_is_no_error(tmp_path: Path) -> None:
    assert said_by_uninstall(AGENT, Choices(root=tmp_path), purge=True) == []


def test_an_allow_list_is_kept_until_it_is_taken_away(tmp_path: Path) -> None:
    drop_in = tmp_path / UNITS / f"{AGENT.service}.d/network.conf"
    said_by_install(AGENT, Choices(root=tmp_path, allowed=("10.0.0.1",)))
    said_by_install(AGENT, Choices(root=tmp_path))
    assert "IPAddressAllow=10.0.0.1/32" in drop_in.read_text()
    said_by_install(AGENT, Choices(root=tmp_path, allowed=("any",)))
    assert not drop_in.exists()


def test_an_address_that_is_none_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"--allow: 'coordinator\.example' is not accepted"):
        said_by_install(AGENT, Choices(root=tmp_path, allowed=("coordinator.example",)))
    assert list(tmp_path.iterdir()) == []


def placement_in(folder: Path, *, interpreter: Path = Path("/usr/bin/env")) -> Placement:
    """An installation whose files exist, in `folder`."""
    package = folder / "lib/duxnet"
    package.mkdir(parents=True)
    command = folder / "bin/duxnet"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    for path in (folder, package.parent, package, command.parent):
        path.chmod(0o755)
    command.chmod(0o755)
    return Placement(command, interpreter, Path("/usr/lib"), package, None)


def test_a_place_that_a_hardened_unit_cannot_see_is_refused_with_two_commands(tmp_path: Path) -> None:
    placement = placement_in(tmp_path / "venv")
    with pytest.raises(CommandError) as refused:
        check_placement(placement, AGENT, hidden=(tmp_path,))
    assert f"the command is below {tmp_path}" in refused.value.reason
    commands = [line.strip() for line in refused.value.remedy.splitlines() if line.startswith("  ")]
    assert commands == [
        "sudo /usr/bin/python3 -m venv /opt/duxnet && sudo /opt/duxnet/bin/pip install 'SOURCE'",
        "sudo /opt/duxnet/bin/duxnet service install",
        "sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install --python /usr/bin/python3 'SOURCE'",
        "sudo /usr/local/bin/duxnet service install",
    ]


def test_from_a_checkout_the_commands_install_that_checkout(tmp_path: Path) -> None:
    placement = replace(placement_in(tmp_path / "venv"), checkout=Path("/srv/duxnet"))
    with pytest.raises(CommandError) as refused:
        check_placement(placement, COORDINATOR, hidden=(tmp_path,))
    assert "pip install '/srv/duxnet[coordinator]'" in refused.value.remedy
    assert "SOURCE" not in refused.value.remedy


def test_an_interpreter_that_a_hardened_unit_cannot_see_is_refused_wherever_its_link_lies(tmp_path: Path) -> None:
    hidden = tmp_path / "home"
    hidden.mkdir()
    interpreter = hidden / "python3"
    interpreter.write_text("")
    with pytest.raises(CommandError, match="the Python interpreter is below"):
        check_placement(placement_in(tmp_path / "opt", interpreter=interpreter), AGENT, hidden=(hidden,))


def test_the_commands_for_a_coordinator_bring_its_extra(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        check_placement(placement_in(tmp_path / "venv"), COORDINATOR, hidden=(tmp_path,))
    assert "'SOURCE[coordinator]'" in refused.value.remedy
    assert "service install --coordinator" in refused.value.remedy


def test_a_folder_closed_to_others_is_refused_with_its_name() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which pytest keeps in a folder closed to others
        Path(name).chmod(0o755)
        placement = placement_in(Path(name) / "opt")
        check_placement(placement, AGENT, hidden=())
        (Path(name) / "opt/lib").chmod(0o700)
        with pytest.raises(CommandError, match="lib is closed to other users"):
            check_placement(placement, AGENT, hidden=())
