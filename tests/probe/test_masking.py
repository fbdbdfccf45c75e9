"""Nothing in a recording names its owner, and it still replays the same way."""

from __future__ import annotations

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.masking import masked
from agent.probe.options import ProbeOptions
from agent.probe.recording import Recorder, RecordingSource
from agent.probe.runner import ProbeRunner

SECRETS = """# duxnet recording 1
option work_dir = /home/alice/work
option registry_address = 93.184.216.34
ask uname = ["Linux", "alices-laptop", "6.1", "v", "x86_64"]
ask interfaces = [{"addresses": ["93.184.216.40", "192.168.7.9", "2a01:4f8::aa:1", "fe80::5054:ff:fe12:3456"]}]
ask route 93.184.216.34 = "93.184.216.40"
ask nvml = {"gpus": [{"uuid": "GPU-8a1b2c3d-0000-1111-2222-333344445555", "serial": "1320220012345"}]}
file /proc/net/if_inet6
|2a0104f8000000000000000000aa0001 02 40 00 20     eth0
|fe80000000000000505400fffe123456 02 40 20 80     eth0
file /etc/machine-id = fedcba9876543210fedcba9876543210
file /sys/class/net/eth0/address = 52:54:00:12:34:56
file /sys/class/drm/card0/device/unique_id = 1a2b3c4d5e6f7788
file /proc/sys/kernel/random/boot_id = 9c1e8a52-1111-2222-3333-444455556666
link /sys/class/net/eth0/device = ../../../0000:02:00.0
file /proc/self/mountinfo
|28 1 8:1 / /media/alice/stick rw - ext4 /dev/disk/by-uuid/9c1e8a52-1111-2222-3333-444455556666 rw
|90 28 0:52 / /mnt rw - nfs4 nas.alice.example:/export rw,clientaddr=192.168.7.9,addr=93.184.216.34
|91 28 0:53 / /share rw - cifs //files.alice.example/share rw,addr=93.184.216.34
|alices-laptop printed by something
"""


def test_every_kind_of_secret_is_masked() -> None:
    text = masked(SECRETS)
    for secret in (
        "alice",
        "93.184.216",
        "192.168.7.9",
        "2a01:4f8",
        "2a0104f8",
        "fe12:3456",
        "fe123456",
        "8a1b2c3d",
        "1320220012345",
        "fedcba98",
        "52:54:00",
        "1a2b3c4d",
        "9c1e8a52",
    ):
        assert secret not in text, secret


def test_what_belonged_together_still_does_and_the_rest_is_untouched() -> None:
    text = masked(SECRETS)
    source = RecordingSource(text)
    assert source.ask("route", source.options["registry_address"]) == source.interfaces()[0]["addresses"][0]
    assert source.read_link("/sys/class/net/eth0/device") == "../../../0000:02:00.0", "a PCI address is no secret"
    assert "GPU-00000000-" in text
    mountinfo = source.read_text("/proc/self/mountinfo") or ""
    assert "server1:/export" in mountinfo
    assert "//server2/share" in mountinfo
    assert source.read_line("/proc/sys/kernel/random/boot_id") in mountinfo


def test_masking_twice_changes_nothing_more() -> None:
    assert masked(masked(SECRETS)) == masked(SECRETS)


@pytest.mark.xdist_group("timing")  # beside no test that mounts something
def test_this_machine_recorded_and_masked_is_offered_the_same() -> None:
    recorder = Recorder(LiveSource())
    live = ProbeRunner(recorder, ProbeOptions("/")).run()
    replayed = ProbeRunner(RecordingSource(masked(recorder.text({}))), ProbeOptions("/")).run()
    assert replayed.capabilities == live.capabilities
    assert [failure.reading for failure in replayed.errors] == [failure.reading for failure in live.errors]


def test_a_file_with_odd_lines_survives_the_format() -> None:
    class One(LiveSource):
        def read_text(self, path: str) -> str:
            return texts[path]

    texts = {"/a": "|bar\n\n# hash\nfile /x = y\n", "/b": "  spaced  \n", "/c": "", "/d": "n\x00u\n", "/e": "one"}
    recorder = Recorder(One())
    for path in texts:
        recorder.read_text(path)
    replay = RecordingSource(recorder.text({}))
    for path, text in texts.items():
        assert (replay.read_text(path) or "").rstrip("\n") == text.rstrip("\n"), path


def test_the_name_of_the_registry_is_masked_wherever_it_stands() -> None:
    text = 'option registry_address = hub.alice.example\nask route hub.alice.example = "10.1.1.1"\n'
    source = RecordingSource(masked(text))
    assert source.options["registry_address"] == "registry.example"
    assert source.ask("route", "registry.example") == "10.0.0.2"
