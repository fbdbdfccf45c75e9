"""The CPUs that work can actually use: affinity ∩ cpuset, quota, cores, kinds of core, frequency, steal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from agent.probe.cgroups import Cgroups
from agent.probe.options import ProbeOptions
from agent.probe.parsers.cpu import cpu_list, cpu_model
from agent.probe.parsers.features import instruction_sets
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source, SourceError
from agent.probe.visibility import NO_PROC, is_proc_hidden

__all__ = ["CpuProbe"]

_CPUS = "/sys/devices/system/cpu"
_AFFINITY = "psutil.Process.cpu_affinity"


class Host(NamedTuple):
    """The online CPUs of the host, where they are listed, how many are offline, and this process's affinity."""

    cpus: frozenset[int]
    source: str
    offline: Optional[int]
    affinity: Optional[frozenset[int]]


class Usable(NamedTuple):
    """The CPUs that work may use, where they are listed, and what excludes the others."""

    cpus: frozenset[int]
    source: str
    limited_by: Optional[str]


class CpuProbe:
    """Runs often enough to detect hot-plugged CPUs and changed quotas."""

    name = "cpu"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        host = _host(source)
        if not host.cpus:
            return [], [Failure(self.name, "neither sysfs nor the operating system reports the number of CPUs")]
        groups = Cgroups(source)
        failures = []
        if is_proc_hidden(source):
            failures.append(Failure(self.name, f"{NO_PROC}: limits of control groups cannot be read", "cpu_quota"))
        usable = _usable(groups, host)
        readings = [
            *_counts(groups, host, usable),
            *_cores(source, host, usable.cpus),
            *_kinds(source, usable.cpus),
            *_identity(source, host.cpus),
        ]
        return readings, failures


def _host(source: Source) -> Host:
    """The online CPUs. LXC shows a made-up list: if the affinity contradicts it, all present CPUs count."""
    present = cpu_list(source.read_text(f"{_CPUS}/present"))
    online = cpu_list(source.read_text(f"{_CPUS}/online"))
    affinity = source.affinity()
    if online and (affinity is None or affinity <= online):
        offline = len(present - online) if present else None
        return Host(online, f"{_CPUS}/online", offline, affinity)
    if affinity is not None and present and affinity <= present:
        return Host(present, f"{_CPUS}/present", None, affinity)
    if affinity is not None:
        return Host(affinity, _AFFINITY, None, affinity)
    try:
        count = source.ask("cpu_count")
    except (OSError, SourceError):
        count = None
    cpus = frozenset(range(count)) if isinstance(count, int) and 0 < count < 65_536 else frozenset()
    return Host(cpus, "psutil.cpu_count", None, None)


def _usable(groups: Cgroups, host: Host) -> Usable:
    """The CPUs that work may use. The kernel keeps the affinity within the online CPUs and the cpuset."""
    affinity = host.affinity
    read_from = host.source if affinity is None else _AFFINITY
    if affinity is not None and affinity == groups.own_cpuset():
        affinity, read_from = None, host.source  # the agent's own unit is limited, not the node
    cpus, limits = host.cpus, []
    cpuset = groups.cpuset()
    if cpuset is not None and cpus & cpuset.cpus and not cpus <= cpuset.cpus:
        cpus &= cpuset.cpus
        limits.append(cpuset.path)
        read_from = f"{read_from}, {cpuset.path}"
    if affinity is not None and not cpus <= affinity:
        cpus = cpus & affinity or affinity
        limits.append("CPU affinity of this process")
    return Usable(cpus, read_from, " and ".join(limits) or None)


def _counts(groups: Cgroups, host: Host, usable: Usable) -> list[Reading]:
    """A quota below the usable CPUs limits the offer; 2.5 CPUs of time are offered as 2, and at least 1."""
    whole = len(usable.cpus)
    offered = Reading("cpu_cores", whole, "CPUs", usable.source, usable.limited_by, host=len(host.cpus))
    offered = offered._replace(note=groups.own_note)
    quota = groups.quota()
    share = Reading("cpu_quota", None, "CPUs", quota.path if quota else f"cgroup {groups.versions}", note=groups.unseen)
    if quota is not None and quota.cpus < whole:
        cpus = round(quota.cpus, 3)
        offered = offered._replace(
            value=max(1, int(quota.cpus)), source=quota.path, limited_by=quota.path, container=cpus
        )
        share = share._replace(value=cpus, limited_by=quota.path, host=len(host.cpus))
    return [offered, share, Reading("host_cpus", len(host.cpus), "CPUs", host.source)]


def _cores(source: Source, host: Host, usable: frozenset[int]) -> list[Reading]:
    """Physical cores from the sets of siblings. psutil's count is None on ARM and wrong in virtual machines."""
    sets, packages = _core_sets(source, host.cpus)
    cores: Optional[int] = None
    host_cores: Optional[int] = None
    if sets is not None:
        host_cores = len(set(sets.values()))
        cores = len({sets[cpu] for cpu in usable if cpu in sets}) or None
    where = f"{_CPUS}/cpu*/topology/core_cpus_list"
    return [
        Reading(
            "physical_cores",
            cores,
            "cores",
            where,
            "the usable CPUs" if cores and host_cores and cores < host_cores else None,
            host=host_cores,
        ),
        Reading("cpu_sockets", packages, "sockets", f"{_CPUS}/cpu*/topology/physical_package_id"),
        Reading("cpus_offline", host.offline, "CPUs", f"{_CPUS}/present"),
    ]


def _core_sets(source: Source, cpus: Iterable[int]) -> tuple[Optional[dict[int, frozenset[int]]], Optional[int]]:
    """CPU → the CPUs of its core, and the number of sockets; None if one CPU has no valid entry."""
    sets: dict[int, frozenset[int]] = {}
    packages: set[int] = set()
    for cpu in sorted(cpus):
        folder = f"{_CPUS}/cpu{cpu}/topology"
        text = source.read_text(f"{folder}/core_cpus_list")
        if text is None:  # before Linux 5.3
            text = source.read_text(f"{folder}/thread_siblings_list")
        siblings = cpu_list(text)
        if not siblings or cpu not in siblings:
            return None, None
        sets[cpu] = siblings
        package = source.read_int(f"{folder}/physical_package_id")
        if package is not None and package >= 0:  # -1: the platform does not know
            packages.add(package)
    if len(packages) > 1 and _is_mixed(source, cpus):
        return sets, 1  # kernels before 5.17 call a cluster of a mixed ARM chip a package
    return sets, len(packages) or None


def _is_mixed(source: Source, cpus: Iterable[int]) -> bool:
    """True if the cores differ in capacity, so that they are on one chip."""
    capacities = {source.read_int(f"{_CPUS}/cpu{cpu}/cpu_capacity") for cpu in cpus}
    return len(capacities - {None}) > 1


def _kinds(source: Source, usable: frozenset[int]) -> list[Reading]:
    """The numbers of usable performance and efficiency CPUs; nothing if all are of one kind."""
    where = "/sys/devices/cpu_core/cpus"
    performance = cpu_list(source.read_text(where))
    efficiency = cpu_list(source.read_text("/sys/devices/cpu_atom/cpus"))
    if not performance or not efficiency:
        where = f"{_CPUS}/cpu*/cpu_capacity"
        capacities = {cpu: source.read_int(f"{_CPUS}/cpu{cpu}/cpu_capacity") for cpu in sorted(usable)}
        fastest = max((capacity for capacity in capacities.values() if capacity), default=0)
        efficiency = frozenset(cpu for cpu, capacity in capacities.items() if capacity and capacity < 0.75 * fastest)
        performance = frozenset(cpu for cpu, capacity in capacities.items() if capacity and capacity >= 0.75 * fastest)
        if not efficiency:
            return []
    return [
        Reading("performance_cpus", len(performance & usable), "CPUs", where),
        Reading("efficiency_cpus", len(efficiency & usable), "CPUs", where),
    ]


def _identity(source: Source, cpus: frozenset[int]) -> list[Reading]:
    cpuinfo = source.read_text("/proc/cpuinfo")
    model = cpu_model(cpuinfo)
    try:
        architecture = source.uname()[4]
    except (OSError, SourceError):  # report the CPUs without it
        architecture = ""
    return [
        Reading("cpu_model", model[:128].strip() or None, "", "/proc/cpuinfo"),
        Reading("architecture", architecture or None, "", "uname"),
        Reading("cpu_features", instruction_sets(cpuinfo), "", "/proc/cpuinfo"),
        _frequency(source, cpus),
        Reading("cpu_steal_percent", _steal_percent(source), "%", "psutil.cpu_times"),
    ]


def _steal_percent(source: Source) -> Optional[float]:
    """Percentage of all CPU time since boot that the hypervisor gave to other guests; None if unknown."""
    try:
        times = source.cpu_times()
    except (OSError, SourceError):  # report the CPUs without it
        return None
    # the kernel counts guest time in user time as well
    total = sum(seconds for state, seconds in times.items() if not state.startswith("guest"))
    return round(100 * times["steal"] / total, 2) if total > 0 and "steal" in times else None


def _frequency(source: Source, cpus: frozenset[int]) -> Reading:
    """The maximum clock that the hardware reports. Virtual machines report none or 0: then it is null, not guessed."""
    where = f"{_CPUS}/cpufreq/policy*/cpuinfo_max_freq"
    highest = 0
    for policy in source.list_dir(f"{_CPUS}/cpufreq"):
        if policy.startswith("policy"):
            highest = max(highest, source.read_int(f"{_CPUS}/cpufreq/{policy}/cpuinfo_max_freq") or 0)
    if not highest:  # before Linux 4.3 each CPU had a folder of its own
        each = f"{_CPUS}/cpu*/cpufreq/cpuinfo_max_freq"
        highest = max((source.read_int(each.replace("*", str(cpu))) or 0 for cpu in sorted(cpus)), default=0)
        where = each if highest else where
    return Reading("cpu_max_mhz", round(highest / 1000) if highest > 0 else None, "MHz", where)
