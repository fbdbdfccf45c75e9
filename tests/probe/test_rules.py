"""Small machines, each with one trait, and what the probe makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.probe.cgroups import Cgroups
from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions, registry_host
from agent.probe.probes.cpu import CpuProbe
from agent.probe.probes.host import HostProbe
from agent.probe.probes.memory import MemoryProbe
from agent.probe.probes.network import NetworkProbe
from agent.probe.probes.storage import StorageProbe
from agent.probe.recording import RecordingSource
from agent.probe.runner import ProbeRunner
from agent.probe.virtualization import container_name, virtual_machine_name

V2 = "file /proc/self/mountinfo = 41 31 0:38 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "file /proc/self/mountinfo = 41 31 0:38 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
UNAME = 'ask uname = ["Linux", "host", "6.1", "v", "x86_64"]\n'
MEMINFO = "file /proc/meminfo\n|MemTotal: 1000000 kB\n|MemAvailable: 500000 kB\n"


def values(probe: Any, text: str, **options: Any) -> dict[str, Any]:
    readings, _ = probe.read(RecordingSource(text), ProbeOptions(**{"work_dir": "/", **options}))
    return {reading.name: reading.value for reading in readings}


def groups(text: str) -> Cgroups:
    return Cgroups(RecordingSource(text))


def test_the_tightest_quota_of_the_ancestry_counts_wherever_it_stands() -> None:
    text = (
        "file /proc/self/cgroup = 0::/a/b/c\n"
        + V2.format(root="/")
        + (
            "file /sys/fs/cgroup/a/cpu.max = 400000 100000\n"
            "file /sys/fs/cgroup/a/b/cpu.max = 150000 100000\n"
            "file /sys/fs/cgroup/a/b/c/cpu.max = max 100000\n"
        )
    )
    limit = groups(text).quota()
    assert limit is not None
    assert limit == (1.5, "/sys/fs/cgroup/a/b/cpu.max")


@pytest.mark.parametrize("name", ["duxnet-agent.service", "duxnet-coordinator.service"])
def test_only_a_component_named_as_our_service_is_left_out(name: str) -> None:
    text = (
        f"file /proc/self/cgroup = 0::/system.slice/{name}/inner\n"
        + V2.format(root="/")
        + (
            f"file /sys/fs/cgroup/system.slice/{name}/memory.max = 1000\n"
            f"file /sys/fs/cgroup/system.slice/{name}/inner/memory.max = 5000\n"
            "file /sys/fs/cgroup/system.slice/memory.max = 9000\n"
        )
    )
    limit = groups(text).memory()
    assert limit is not None
    assert limit.limit_bytes == 5000
    other = groups(text.replace(name, f"x-{name}")).memory()
    assert other is not None
    assert other.limit_bytes == 1000, "a name that merely ends like ours is another service"


def test_a_container_under_v1_learns_of_ancestors_from_memory_stat() -> None:
    text = (
        "file /proc/self/cgroup = 4:memory:/docker/x\n"
        + V1.format(root="/docker/x")
        + (
            "file /sys/fs/cgroup/memory/memory.limit_in_bytes = 9223372036854771712\n"
            "file /sys/fs/cgroup/memory/memory.stat\n|hierarchical_memory_limit 4096\n"
        )
    )
    limit = groups(text).memory()
    assert limit is not None
    assert limit[:2] == (4096, "/sys/fs/cgroup/memory/memory.stat")


@pytest.mark.parametrize(
    ("own", "root"),
    [
        ("/docker/x", "/docker/x"),  # the container's own group is the top of the mount
        ("/docker/x", "/kubepods/y"),  # the path lies elsewhere: the top of the mount is all that is known
        ("/../../other", "/"),  # outside of our namespace
        ("/docker/x", "/"),  # the host's path, but the host's tree is not there
        ("/", "/"),
    ],
)
def test_where_the_path_leads_nowhere_the_top_of_the_mount_is_read(own: str, root: str) -> None:
    text = f"file /proc/self/cgroup = 0::{own}\n" + V2.format(root=root) + "file /sys/fs/cgroup/memory.max = 4096\n"
    limit = groups(text).memory()
    assert limit is not None
    assert limit.path == "/sys/fs/cgroup/memory.max"


def test_a_machine_without_control_groups_has_no_limits() -> None:
    assert groups("").quota() is None
    assert groups("").memory() is None
    assert groups("").cpuset() is None
    assert groups("").versions == "none"


def test_memory_says_nothing_rather_than_something_wrong_without_a_total() -> None:
    readings, failures = MemoryProbe().read(RecordingSource("file /proc/meminfo = nonsense\n"), ProbeOptions())
    assert not readings
    assert failures


def test_huge_pages_are_taken_off_and_a_limit_above_the_rest_does_not_bind() -> None:
    text = MEMINFO + "|HugePages_Total: 100\n|Hugepagesize: 2048 kB\n"
    text += "file /proc/self/cgroup = 0::/a\n" + V2.format(root="/") + "file /sys/fs/cgroup/a/memory.max = 900000000\n"
    assert values(MemoryProbe(), text)["memory_gb"] == 0.814  # 1024000000 - 209715200
    assert values(MemoryProbe(), text.replace("900000000", "300000000"))["memory_gb"] == 0.3


POOL = "file /sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages = {count}\n"


@pytest.mark.parametrize(
    ("pools", "huge"),
    [
        ("|HugePages_Total: 100\n|Hugepagesize: 2048 kB\n|Hugetlb: 300000 kB\n", 0.307),
        ("|HugePages_Total: 0\n|Hugepagesize: 2048 kB\n|Hugetlb: 0 kB\n" + POOL.format(size=2048, count=9), 0.0),
        # before Linux 4.16 there is no Hugetlb: 100 × 2048 + 3 × 65536 = 401408 KiB
        (
            "|HugePages_Total: 100\n|Hugepagesize: 2048 kB\n"
            + POOL.format(size=2048, count=100)
            + POOL.format(size=65536, count=3)
            + POOL.format(size="x", count=3)
            + POOL.format(size=16777216, count=-1),
            0.411,
        ),
        ("|HugePages_Total: 100\n|Hugepagesize: 2048 kB\n", 0.21),
    ],
)
def test_huge_pages_of_every_size_are_taken_off(pools: str, huge: float) -> None:
    told = values(MemoryProbe(), MEMINFO + pools)
    assert told["memory_hugepages_gb"] == huge
    assert told["memory_gb"] == pytest.approx(1.024 - huge, abs=0.001)


def gpu_node(number: object, cpus: str = "", total: int = 200000) -> str:
    folder = f"/sys/devices/system/node/node{number}"
    return (
        f"file /proc/driver/nvidia/gpus/0004:0{number}:00.0/numa_status\n|Node:      {number}\n|Status:    online\n"
        f"file {folder}/meminfo = Node {number} MemTotal: {total} kB\nfile {folder}/cpulist = {cpus}\n"
    )


@pytest.mark.parametrize(
    ("nodes", "memory"),
    [
        (gpu_node(5), 0.819),
        (gpu_node(5) + gpu_node(6), 0.614),
        (gpu_node(5, cpus="0-3"), 1.024),  # a node with CPUs is the machine's own
        (gpu_node("-1"), 1.024),
        (gpu_node("x"), 1.024),
        (gpu_node(5, total=9000000), 1.024),  # more than there is: not believed
    ],
)
def test_memory_of_gpus_that_is_on_line_as_nodes_is_not_offered_twice(nodes: str, memory: float) -> None:
    assert values(MemoryProbe(), MEMINFO + nodes)["memory_gb"] == memory


@pytest.mark.parametrize(
    ("devices", "swap"),
    [
        ([("/dev/zram0", 1000000), ("/dev/sda2", 1000000)], 1.024),
        ([("/dev/zram0", 1000000), ("/dev/zram11", 1000000)], 0.0),
        ([("/dev/block/zram0", 2000000)], 0.0),  # Android
        ([("/dev/ram0", 1000000), ("/swapfile", 1000000)], 1.024),
        ([("/dev/dm-0", 1000000), ("/mnt/zram0", 1000000)], 2.048),
        ([("/dev/zramdisk", 2000000)], 2.048),
        ([("/dev/zram0", 9000000)], 0.0),
        ([], 2.048),
    ],
)
def test_swap_in_memory_is_no_swap_on_a_disk(devices: list[tuple[str, int]], swap: float) -> None:
    text = MEMINFO + 'ask swap_memory = {"total": 2048000000}\nfile /proc/swaps\n|Filename Type Size Used Priority\n'
    text += "".join(f"|{name} partition {size} 0 -2\n" for name, size in devices)
    assert values(MemoryProbe(), text)["swap_gb"] == swap


def test_cores_are_not_known_where_one_cpu_has_no_siblings_listed() -> None:
    text = UNAME + "file /sys/devices/system/cpu/online = 0-1\n"
    text += "file /sys/devices/system/cpu/cpu0/topology/core_cpus_list = 0\n"
    assert values(CpuProbe(), text)["physical_cores"] is None
    text += "file /sys/devices/system/cpu/cpu1/topology/thread_siblings_list = 1\n"
    assert values(CpuProbe(), text)["physical_cores"] == 2, "kernels before 5.3 name the file differently"


def test_without_sysfs_the_systems_own_count_is_taken() -> None:
    assert values(CpuProbe(), UNAME + "ask cpu_count = 6\n")["cpu_cores"] == 6
    readings, failures = CpuProbe().read(RecordingSource(UNAME), ProbeOptions())
    assert not readings
    assert failures


@pytest.mark.parametrize(("megahertz", "told"), [("0", None), ("x", None), ("2400000", 2400)])
def test_a_clock_of_nought_is_no_clock(megahertz: str, told: object) -> None:
    text = UNAME + "ask cpu_count = 1\n"
    text += f"file /sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq = {megahertz}\n"
    assert values(CpuProbe(), text)["cpu_max_mhz"] == told


@pytest.mark.parametrize(
    ("times", "percent"),
    [
        ('{"user": 40.0, "system": 10.0, "idle": 40.0, "steal": 10.0, "guest": 5.0, "guest_nice": 1.0}', 10.0),
        ('{"user": 40.0, "system": 10.0, "idle": 50.0}', None),  # macOS, and Linux before 2.6.11
        ('{"user": 0.0, "idle": 0.0, "steal": 0.0}', None),  # gVisor counts nothing
        ("{}", None),
        ('{"steal": "x"}', None),
        ("[1]", None),
        ("null", None),
    ],
)
def test_steal_is_its_share_of_all_time(times: str, percent: object) -> None:
    told = values(CpuProbe(), UNAME + f"ask cpu_count = 2\nask cpu_times = {times}\n")
    assert (told["cpu_cores"], told["cpu_steal_percent"]) == (2, percent)


@pytest.mark.parametrize(
    ("answer", "swap"),
    [
        ('ask swap_memory = {"total": 8589934592}', 8.59),
        ('ask swap_memory = {"total": 0}', 0.0),
        ("ask swap_memory = 7", None),
        ("fail swap_memory = No such file or directory", None),
    ],
)
def test_swap_that_cannot_be_told_is_null_and_costs_no_memory(answer: str, swap: object) -> None:
    told = values(MemoryProbe(), f"{MEMINFO}{answer}\n")
    assert (told["memory_gb"], told["swap_gb"]) == (1.024, swap)


INTERFACES = (
    'ask interfaces = [{"name": "docker0", "up": true, "addresses": ["172.17.0.1"]},'
    ' {"name": "eth0", "up": true, "addresses": ["10.0.0.2", "fe80::1", "198.51.100.7"]},'
    ' {"name": "eth1", "up": false, "addresses": ["198.51.100.9"]}, {"name": "lo", "up": true, "addresses": ["::1"]}]\n'
    "link /sys/class/net/eth0/device = ../../../0000:01:00.0\n"
)


def test_the_address_that_reaches_the_registry_comes_first_then_public_then_private() -> None:
    text = INTERFACES + 'ask route 203.0.113.5 = "10.0.0.2"\nask route 192.0.2.1 = "198.51.100.7"\n'
    assert values(NetworkProbe(), text)["addresses"] == ["198.51.100.7", "10.0.0.2"]
    told = values(NetworkProbe(), text, registry_address="203.0.113.5")
    assert (told["primary_address"], told["addresses"]) == ("10.0.0.2", ["10.0.0.2", "198.51.100.7"])


def test_without_a_route_the_first_address_stands_in_and_loopback_never_does() -> None:
    assert values(NetworkProbe(), INTERFACES)["primary_address"] == "198.51.100.7"
    text = INTERFACES + 'ask route 192.0.2.1 = "127.0.0.1"\n'
    assert values(NetworkProbe(), text)["primary_address"] == "198.51.100.7", "offline hosts route to themselves"


@pytest.mark.parametrize(("speed", "told"), [("1000", 1000), ("-1", None), ("0", None), ("4294967295", None)])
def test_a_speed_is_what_the_driver_of_a_real_device_states_or_null(speed: str, told: object) -> None:
    text = INTERFACES + f"file /sys/class/net/eth0/speed = {speed}\nfile /sys/class/net/docker0/speed = 10000\n"
    docker, ethernet, *_ = values(NetworkProbe(), text)["interfaces"]
    assert (docker["speed_mbit"], ethernet["speed_mbit"]) == (None, told)


def disk_usage(path: str, total: int, used: int, free: int, inodes: int = 0) -> str:
    sizes = {"total": total, "used": used, "free": free, "inodes": inodes, "inodes_available": inodes}
    return f"ask disk_usage {path} = {json.dumps(sizes)}\n"


def network(*interfaces: tuple[str, str], more: str = "") -> list[str]:
    """What is offered of interfaces that are up, each with one address."""
    told = [{"name": name, "up": True, "addresses": [address]} for name, address in interfaces]
    offered: list[str] = values(NetworkProbe(), f"ask interfaces = {json.dumps(told)}\n{more}")["addresses"]
    return offered


@pytest.mark.parametrize(
    "name",
    [
        "docker0", "docker_gwbridge", "br-0123456789ab", "podman1", "nerdctl0", "cni0", "cni-podman0", "cbr0", "lxcbr0",
        "lxdbr0", "incusbr0", "flannel.1", "cali1234", "vxlan.calico", "tunl0", "cilium_host", "cilium_net", "weave",
        "antrea-gw0", "kube-ipvs0", "kube-bridge", "nodelocaldns", "ovn-k8s-mp0", "genev_sys_6081", "vxlan_sys_4789",
        "virbr0", "vnet3", "vmnet1", "vmnet8", "vboxnet0", "fwbr100i0", "qbr1234", "veth12", "ve-web",
        "mpqemubr0", "waydroid0",
    ],
)  # fmt: skip
def test_what_is_for_guests_of_this_machine_only_is_told_and_not_offered(name: str) -> None:
    assert network((name, "10.1.0.1"), ("eth0", "10.0.0.2")) == ["10.0.0.2"]


@pytest.mark.parametrize(
    "name",
    ["br-lan", "br-ex", "br-mgmt", "br-storage", "br-int0123456789ab", "br-0123456789abc", "br0", "bond0", "vlan5",
     "vmbr0", "xenbr0", "wg0", "tailscale0", "tun0", "ppp0", "wlan0", "venet0", "v-lan", "eth0", "vxfabric"],
)  # fmt: skip
def test_what_only_looks_like_it_is_offered(name: str) -> None:
    assert network((name, "10.1.0.1"), ("lo", "127.0.0.1")) == ["10.1.0.1"]


@pytest.mark.parametrize(
    ("facts", "offered"),
    [
        ("file /sys/class/net/x0/uevent\n|DEVTYPE=geneve\n|INTERFACE=x0\n", False),
        ("file /sys/class/net/x0/uevent\n|DEVTYPE=vlan\n", True),
        ('dir /sys/class/net/x0/brif = ["veth1"]\ndir /sys/class/net/veth1 = ["mtu"]\n', False),
        ('dir /sys/class/net/x0/brif = ["veth1", "eno1"]\ndir /sys/class/net/eno1 = ["device"]\n', True),
        ('dir /sys/class/net/x0/brif = ["eno1.5"]\ndir /sys/class/net/eno1.5 = ["lower_eno1", "mtu"]\n', True),
        ("file /sys/class/net/x0/bridge/stp_state = 0\n", True),  # a bridge without ports says nothing
        (
            "file /sys/class/net/x0/uevent\n|DEVTYPE=vxlan\nlink /sys/class/net/x0/device = ../../../0000:00:03.0\n",
            True,
        ),
    ],
)
def test_the_kernel_says_of_an_interface_of_any_name_where_it_leads(facts: str, offered: bool) -> None:
    assert network(("x0", "10.1.0.1"), more=facts) == (["10.1.0.1"] if offered else [])


def ipv6(**flags: int) -> str:
    lines = [f"|20010db80000000000000000{int(name[1:]):08d} 02 40 00 {flag:02x} eth0\n" for name, flag in flags.items()]
    told = [{"name": "eth0", "up": True, "addresses": [f"2001:db8::{name[1:]}" for name in flags]}]
    return f"ask interfaces = {json.dumps(told)}\nfile /proc/net/if_inet6\n{''.join(lines)}"


@pytest.mark.parametrize(
    ("flags", "offered"),
    [
        ({"a1": 0x00, "a2": 0x20}, ["2001:db8::1"]),
        ({"a1": 0x80, "a2": 0xC0, "a3": 0xA2, "a4": 0x88}, ["2001:db8::1"]),  # permanent; tentative; deprecated; failed
        ({"a2": 0x01, "a1": 0x00}, ["2001:db8::1"]),  # a temporary one beside a lasting one
        ({"a2": 0x01}, ["2001:db8::2"]),  # temporary ones only
        ({"a3": 0x21, "a2": 0x01}, ["2001:db8::2"]),
        ({"a1": 0x20}, []),
        ({"a1": 0x40}, []),
    ],
)
def test_an_address_that_is_about_to_go_or_to_come_is_not_offered(flags: dict[str, int], offered: list[str]) -> None:
    assert values(NetworkProbe(), ipv6(**flags))["addresses"] == offered


def test_a_new_temporary_address_changes_nothing_that_is_registered() -> None:
    route = 'ask route 2001:db8::1 = "2001:db8::{}"\n'
    today = values(NetworkProbe(), ipv6(a1=0x00, a5=0x01) + route.format(5))
    tomorrow = values(NetworkProbe(), ipv6(a1=0x00, a5=0x21, a6=0x01, a7=0x41) + route.format(6))
    for told in (today, tomorrow):
        assert (told["primary_address"], told["addresses"]) == ("2001:db8::1", ["2001:db8::1"])


def test_a_list_of_file_systems_that_was_cut_says_so() -> None:
    mounts = "".join(f"|{n} 1 8:{n} / /mnt/{n} rw - ext4 /dev/sd{n} rw\n" for n in range(2, 72))
    text = DISK + "file /proc/self/mountinfo\n|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts
    text += "".join(disk_usage(f"/mnt/{n}", 10, 5, 5) for n in range(2, 72))
    readings, _ = StorageProbe().read(RecordingSource(text), ProbeOptions("/"))
    (told,) = (reading for reading in readings if reading.name == "file_systems")
    assert (len(told.value), told.limited_by) == (64, "64 file systems are reported: 7 more are left out")


DISK = 'ask nearest_existing / = "/"\n' + disk_usage("/", 1000000000, 400000000, 500000000)


def test_a_bind_mount_is_the_same_disk_and_a_second_disk_is_another() -> None:
    text = DISK + (
        "file /proc/self/mountinfo\n|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n|2 1 8:1 /srv /mnt/a rw - ext4 /dev/sda1 rw\n"
        "|3 1 8:2 / /mnt/b rw - ext4 /dev/sdb rw\n"
    )
    text += disk_usage("/mnt/b", 10, 5, 5)
    assert [item["mount_point"] for item in values(StorageProbe(), text)["file_systems"]] == ["/", "/mnt/b"]


def test_a_mount_that_another_one_hides_is_not_counted() -> None:
    text = DISK + (
        "file /proc/self/mountinfo\n|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n|2 1 8:2 / /mnt rw - ext4 /dev/sdb rw\n"
        "|3 1 8:3 / /mnt rw - ext4 /dev/sdc rw\n"
    )
    text += disk_usage("/mnt", 10, 5, 5)
    assert [item["device"] for item in values(StorageProbe(), text)["file_systems"]] == ["/dev/sda1", "/dev/sdc"]


@pytest.mark.parametrize(
    "answer",
    [
        disk_usage("/", 10, -10, 5),
        disk_usage("/", 10, 5, 6),
        disk_usage("/", 10, 5, -1),
        disk_usage("/", -1, 0, 0),
        'ask disk_usage / = {"total": 10, "used": 5, "free": 5}\n',
        'ask disk_usage / = {"total": "x", "used": 5, "free": 5, "inodes": 0, "inodes_available": 0}\n',
        "ask disk_usage / = [1, 2]\n",
        "ask disk_usage / = null\n",
        'ask disk_usage / = "x"\n',
    ],
)
def test_an_impossible_size_is_an_error_and_no_storage(answer: str) -> None:
    source = RecordingSource(f'ask nearest_existing / = "/"\n{answer}')
    readings, failures = StorageProbe().read(source, ProbeOptions("/"))
    assert "storage_gb" not in {reading.name for reading in readings}
    assert failures[0].reading == "storage_gb"


def test_work_in_memory_is_told_as_that() -> None:
    text = DISK + "file /proc/self/mountinfo = 1 0 0:30 / / rw - tmpfs tmpfs rw,size=1g\n"
    told = values(StorageProbe(), text)
    assert told["storage_device"]["in_memory"] is True
    assert told["file_systems"] == []


EC2 = "file /sys/class/dmi/id/sys_vendor = Amazon EC2\n"
GOOGLE = "file /sys/class/dmi/id/product_name = Google Compute Engine\n"


def namespaces(pid: int) -> str:
    first = {"pid": pid, "uts": 4026532111, "cgroup": 4026531835}  # ProtectHostname= gives a service its own uts
    return "".join(f"link /proc/self/ns/{kind} = {kind}:[{number}]\n" for kind, number in first.items())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (namespaces(4026531836) + "file /.dockerenv\n", ""),  # a virtual machine that was made from an image
        (namespaces(4026532999), "container"),
        (namespaces(4026532999) + "file /.dockerenv\n", "docker"),
        ("file /run/.containerenv\n", "podman"),
        ("file /run/systemd/container = lxc\nfile /.dockerenv\n", "lxc"),
        ("file /proc/1/cgroup = 0::/kubepods/besteffort/pod1/x\n", "kubernetes"),
        # a node agent with the host's namespaces: its own control group tells
        (namespaces(4026531836) + "file /proc/self/cgroup\n|5:memory:/docker/0123\n|1:name=systemd:/\n", "docker"),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/system.slice/docker-0123.scope\n", "docker"),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/kubepods.slice/kubepods-pod1.slice/x\n", "kubernetes"),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/machine.slice/libpod-12.scope\n", "podman"),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/lxc.payload.web/x\n", "lxc"),
        # services of the host that only run containers or guests
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/system.slice/docker.service\n", ""),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/machine.slice/libpod-conmon-12.scope\n", ""),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/machine.slice/machine-qemu-1.scope\n", ""),
        (namespaces(4026531836) + "file /proc/self/cgroup = 0::/system.slice/lxc.monitor.web\n", ""),
        (namespaces(4026532205) + "file /proc/sys/kernel/osrelease = 6.6-microsoft-standard-WSL2\n", ""),
        (namespaces(4026532205) + "file /proc/sys/kernel/osrelease = 6.6-microsoft-x\nfile /.dockerenv\n", "docker"),
        ("", ""),
    ],
)
def test_a_container_is_known_by_its_namespaces_and_named_by_its_traces(text: str, name: str) -> None:
    assert container_name(RecordingSource(text)) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file /sys/class/dmi/id/sys_vendor = QEMU\n", "qemu"),
        ("file /sys/class/dmi/id/sys_vendor = Amazon EC2\n", "amazon"),
        ("file /sys/class/dmi/id/product_name = VMware Virtual Platform\n", "vmware"),
        ("file /sys/class/dmi/id/product_name = Virtual Machine\n", "microsoft"),
        ("file /sys/class/dmi/id/sys_vendor = Dell Inc.\n", ""),
        ("file /sys/hypervisor/type = xen\n", "xen"),
        (
            "file /sys/devices/system/clocksource/clocksource0/available_clocksource = tsc kvm-clock acpi_pm\n",
            "kvm",
        ),
        ("file /proc/cpuinfo = flags\t: fpu hypervisor sse\n", "vm"),
        ("file /proc/sys/kernel/osrelease = 5.15.153.1-microsoft-standard-WSL2\n", "wsl"),
        ("file /sys/class/dmi/id/product_name = Apple Virtualization Generic Platform\n", "apple"),
        ("file /proc/sysinfo\n|LPAR Number: 12\n|VM00 Control Program: KVM/Linux\n", "kvm"),
        ("file /proc/sysinfo\n|LPAR Number: 12\n|VM00 Control Program: z/VM    7.3.0\n", "zvm"),
        ("file /proc/sysinfo\n|LPAR Number: 12\n|LPAR Name: A\n", ""),
        ("file /proc/device-tree/ibm,partition-name = lpar7␀\n", "powervm"),
        ("file /proc/device-tree/compatible = qemu,pseries␀\n", "qemu"),
        ("file /proc/device-tree/hypervisor/compatible = linux,kvm␀\n", "kvm"),
        ("file /proc/device-tree/hypervisor/compatible = xen,xen-4.17␀xen,xen␀\n", "xen"),
        ("file /proc/device-tree/compatible = linux,dummy-virt␀\n", "vm"),
        ("file /proc/device-tree/compatible = linux,dummy-virt␀\nfile /proc/device-tree/fw-cfg@1/x = 1\n", "qemu"),
        ("file /proc/device-tree/compatible = raspberrypi,5-model-b␀brcm,bcm2712␀\n", ""),
        ("file /proc/cpuinfo\n|cpu : POWER7 (architected)\n|platform : pSeries\n|machine : CHRP IBM,8231\n", "powervm"),
        ("file /proc/cpuinfo\n|platform : pSeries\n|machine : CHRP IBM pSeries (emulated by qemu)\n", "qemu"),
        ("file /proc/cpuinfo\n|cpu : POWER9, altivec\n|platform : PowerNV\n", ""),
        ("file /proc/cpuinfo\n|vendor_id : User Mode Linux\n", "uml"),
        ("file /proc/bus/pci/devices\n|0010\t80eebeef\t0\n", "oracle"),
        ("file /proc/bus/pci/devices\n|0010\t1b36000c\t0\n", "qemu"),
        ("file /proc/bus/pci/devices\n|0010\t808610c9\t0\n", ""),
        # rented whole: the cloud's firmware, and no hypervisor
        (EC2 + "file /sys/class/dmi/id/product_name = c5.metal\n", ""),
        (EC2 + "file /sys/class/dmi/id/product_name = c7g.metal-48xl\n", ""),
        (EC2 + "file /sys/class/dmi/id/product_name = c5.large\nfile /proc/cpuinfo = flags : hypervisor\n", "amazon"),
        (EC2 + "file /sys/class/dmi/id/product_name = c5.large\nfile /proc/cpuinfo = flags : fpu sse\n", ""),
        (GOOGLE + "file /proc/cpuinfo = flags : fpu sse\n", ""),
        (GOOGLE + "file /proc/cpuinfo = flags : fpu hypervisor\n", "google"),
        # Xen's first system
        ("file /sys/hypervisor/type = xen\nfile /proc/xen/capabilities = control_d\n", ""),
        ("file /sys/hypervisor/type = xen\nfile /sys/hypervisor/properties/features = 00002f05\n", ""),
        ("file /sys/hypervisor/type = xen\nfile /sys/hypervisor/properties/features = 00002705\n", "xen"),
        ("file /sys/hypervisor/type = xen\nfile /sys/hypervisor/properties/features = x\n", "xen"),
        ("file /sys/class/dmi/id/product_name = ProLiant DL380\nfile /proc/cpuinfo = flags : fpu\n", ""),
        ("", ""),
    ],
)
def test_a_virtual_machine_is_known_by_its_firmware_or_its_clock(text: str, name: str) -> None:
    assert virtual_machine_name(RecordingSource(text)) == name


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("https://registry.example:8410/v1", "registry.example"),
        ("http://10.0.0.1", "10.0.0.1"),
        ("http://[2001:db8::1]:8410", "2001:db8::1"),
        ("http://user@host/", "host"),
        ("/var/lib/nodes.db", None),
        ("nodes.json", None),
        ("http://", None),
    ],
)
def test_the_host_of_the_registry_is_taken_from_its_address(target: str, host: object) -> None:
    assert registry_host(target) == host


def test_a_name_that_nobody_resolves_does_not_cost_the_addresses() -> None:
    text = INTERFACES + 'hang route registry.example\nask route 192.0.2.1 = "10.0.0.2"\n'
    assert values(NetworkProbe(), text, registry_address="registry.example")["primary_address"] == "10.0.0.2"


def test_a_name_is_resolved_and_its_route_found() -> None:
    assert LiveSource().ask("route", "localhost") in ("127.0.0.1", "::1")
    assert LiveSource().ask("route", "no-such-name.invalid") is None


def test_a_system_without_proc_is_told_by_psutils_readings_alone() -> None:
    text = (
        'ask uname = ["Darwin", "mac", "23.6.0", "v", "arm64"]\nask affinity = null\nask cpu_count = 8\n'
        'ask virtual_memory = {"total": 17179869184, "available": 8589934592}\nask nearest_existing / = "/"\n'
        'ask swap_memory = {"total": 2147483648}\n'
        'ask cpu_times = {"user": 10.0, "nice": 0.0, "system": 5.0, "idle": 85.0}\n'
        'ask interfaces = [{"name": "en0", "up": true, "mtu": 1500, "addresses": ["10.0.0.5"]}]\n'
        'ask route 192.0.2.1 = "10.0.0.5"\n'
    )
    text += disk_usage("/", 494384795648, 294384795648, 200000000000)
    report = ProbeRunner(RecordingSource(text), ProbeOptions("/")).run()
    assert report.errors == ()
    told = report.capabilities
    assert (told.cpu_cores, told.memory_gb, told.storage_gb, told.gpu_enabled) == (8, 17.18, 494.385, False)
    values = {reading.name: reading.value for reading in report.readings}
    assert (values["swap_gb"], values["cpu_steal_percent"], values["interfaces"][0]["mtu"]) == (2.147, None, 1500)
    assert (told.architecture, told.kernel, report.primary_address) == ("arm64", "Darwin 23.6.0", "10.0.0.5")
    assert report.host["os_version"] == "Darwin 23.6.0"


@pytest.mark.parametrize(
    ("facts", "mhz"),
    [
        ("file /sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq = 4700000\n", 4700),
        ("file /sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq = 2667000\n", 2667),  # before Linux 4.3
        ("file /sys/devices/system/cpu/cpu9/cpufreq/cpuinfo_max_freq = 2667000\n", None),
        ("", None),
    ],
)
def test_the_highest_clock_is_found_in_both_of_its_places(facts: str, mhz: object) -> None:
    told = values(CpuProbe(), UNAME + "file /sys/devices/system/cpu/online = 0-1\n" + facts)
    assert told["cpu_max_mhz"] == mhz


def test_clusters_of_a_mixed_chip_are_one_socket_and_packages_of_equal_cores_are_several() -> None:
    text = UNAME + "file /sys/devices/system/cpu/online = 0-1\n"
    for cpu in (0, 1):
        topology = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        text += f"file {topology}/core_cpus_list = {cpu}\nfile {topology}/physical_package_id = {cpu}\n"
    assert values(CpuProbe(), text)["cpu_sockets"] == 2
    strengths = "".join(f"file /sys/devices/system/cpu/cpu{cpu}/cpu_capacity = {9 + cpu}00\n" for cpu in (0, 1))
    assert values(CpuProbe(), text + strengths)["cpu_sockets"] == 1


def test_where_nothing_would_tell_of_a_hypervisor_its_absence_is_not_told() -> None:
    def note(text: str) -> str:
        readings, _ = HostProbe().read(RecordingSource(UNAME + text), ProbeOptions("/"))
        return next(reading.note for reading in readings if reading.name == "virtual_machine")

    assert note('dir /sys/bus = ["pci"]\n') == "nothing here shows whether this is a virtual machine"
    assert note("file /sys/class/dmi/id/sys_vendor = Dell Inc.\n") == ""
