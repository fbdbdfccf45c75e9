"""The CPUs that work could really use: affinity ∩ cpuset, quota, cores, kinds of core, frequency, steal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from agent.probe.cgroups import Cgroups
from agent.probe.options import ProbeOptions
from agent.probe.parsers.cpu import cpu_list, cpu_model, steal_share
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source

__all__ = ["CpuProbe"]

_CPUS = "/sys/devices/system/cpu"


class Usable(NamedTuple):
    """The CPUs that work may run on, who says so, and what took the others away."""

    cpus: frozenset[int]
    source: str
    limited_by: Optional[str]


class CpuProbe:
    """Hot-plugged CPUs and changed quotas are noticed within a cadence."""

    name = "cpu"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        online, online_source = _online(source)
        if not online:
            return [], [Failure(self.name, "neither sysfs nor the system says how many CPUs there are")]
        groups = Cgroups(source)
        usable = _usable(source, groups, online)
        readings = [
            *_counts(groups, online, online_source, usable),
            *_cores(source, online, usable.cpus),
            *_kinds(source, usable.cpus),
            *_identity(source),
        ]
        return readings, []


def _online(source: Source) -> tuple[frozenset[int], str]:
    online = cpu_list(source.read_text(f"{_CPUS}/online"))
    if online:
        return online, f"{_CPUS}/online"
    count = source.ask("cpu_count")
    return (frozenset(range(count)), "os.cpu_count") if isinstance(count, int) else (frozenset(), "")


def _usable(source: Source, groups: Cgroups, online: frozenset[int]) -> Usable:
    """The CPUs that work here may run on. The kernel keeps the affinity inside the online CPUs and the cpuset."""
    affinity = source.affinity()
    told_by = "os.cpu_count" if affinity is None else "sched_getaffinity"
    if affinity is not None and affinity == groups.own_cpuset():
        affinity = None  # it is the agent's own unit that is limited, not the node
    if affinity is not None and not affinity <= online:
        online = affinity  # LXC shows a made-up list of online CPUs; the scheduler's word counts
    cpus, limits = online, []
    cpuset = groups.cpuset()
    if cpuset is not None and cpus & cpuset.cpus and not cpus <= cpuset.cpus:
        cpus &= cpuset.cpus
        limits.append(cpuset.path)
        told_by = f"{told_by}, {cpuset.path}"
    if affinity is not None and not cpus <= affinity:
        cpus = cpus & affinity or affinity
        limits.append("CPU affinity of this process")
    return Usable(cpus, told_by, " and ".join(limits) or None)


def _counts(groups: Cgroups, online: frozenset[int], online_source: str, usable: Usable) -> list[Reading]:
    """A quota below the usable CPUs decides; 2.5 CPUs of time are offered as 2, and never less than 1."""
    whole = len(usable.cpus)
    host = max(len(online), whole)
    offered = Reading("cpu_cores", whole, "CPUs", usable.source, usable.limited_by, host=host)
    quota = groups.quota()
    share = Reading("cpu_quota", None, "CPUs", quota.path if quota else f"cgroup {groups.versions}")
    if quota is not None and quota.cpus < whole:
        cpus = round(quota.cpus, 3)
        offered = offered._replace(
            value=max(1, int(quota.cpus)), source=quota.path, limited_by=quota.path, container=cpus
        )
        share = share._replace(value=cpus, limited_by=quota.path, host=host)
    return [offered, share, Reading("host_cpus", host, "CPUs", online_source)]


def _cores(source: Source, online: frozenset[int], usable: frozenset[int]) -> list[Reading]:
    """Physical cores from the sets of siblings. psutil's own count is None on ARM and wrong in virtual machines."""
    present = cpu_list(source.read_text(f"{_CPUS}/present")) or online
    offline = sorted(present - online)
    sets, packages = _core_sets(source, online)
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
        Reading("cpus_offline", len(offline), "CPUs", f"{_CPUS}/present"),
    ]


def _core_sets(source: Source, cpus: Iterable[int]) -> tuple[Optional[dict[int, frozenset[int]]], Optional[int]]:
    """CPU → the CPUs of its core, and the number of sockets; None as soon as one CPU has no valid answer."""
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
    return sets, len(packages) or None


def _kinds(source: Source, usable: frozenset[int]) -> list[Reading]:
    """How many usable logical CPUs are of the fast and of the thrifty kind; nothing on a machine of one kind."""
    where = "/sys/devices/cpu_core/cpus"
    fast = cpu_list(source.read_text(where))
    thrifty = cpu_list(source.read_text("/sys/devices/cpu_atom/cpus"))
    if not fast or not thrifty:
        where = f"{_CPUS}/cpu*/cpu_capacity"
        capacities = {cpu: source.read_int(f"{_CPUS}/cpu{cpu}/cpu_capacity") for cpu in sorted(usable)}
        known = {capacity for capacity in capacities.values() if capacity}
        if len(known) < 2:
            return []
        fastest = max(known)
        fast = frozenset(cpu for cpu, capacity in capacities.items() if capacity == fastest)
        thrifty = frozenset(cpu for cpu, capacity in capacities.items() if capacity and capacity < fastest)
    return [
        Reading("performance_cpus", len(fast & usable), "CPUs", where),
        Reading("efficiency_cpus", len(thrifty & usable), "CPUs", where),
    ]


def _identity(source: Source) -> list[Reading]:
    model = cpu_model(source.read_text("/proc/cpuinfo"))
    architecture = source.uname()[4]
    return [
        Reading("cpu_model", model[:128].strip(), "", "/proc/cpuinfo"),
        Reading("architecture", architecture, "", "uname"),
        _frequency(source),
        Reading("cpu_steal_percent", steal_share(source.read_text("/proc/stat")), "%", "/proc/stat"),
    ]


def _frequency(source: Source) -> Reading:
    """The highest clock that the hardware states. Virtual machines state none, or 0: then it is null, not a guess."""
    where = f"{_CPUS}/cpufreq/policy*/cpuinfo_max_freq"
    highest = 0
    for policy in source.list_dir(f"{_CPUS}/cpufreq"):
        if policy.startswith("policy"):
            highest = max(highest, source.read_int(f"{_CPUS}/cpufreq/{policy}/cpuinfo_max_freq") or 0)
    return Reading("cpu_max_mhz", round(highest / 1000) if highest > 0 else None, "MHz", where)
