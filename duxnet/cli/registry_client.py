"""The registry that a command works on, with the newest health of this machine's own node.

The file of an embedded registry holds no health samples; the newest one is in the agent's status file.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from duxnet.cli.local_agent import find_local_agent
from registry_core.errors import DamagedStoreError, StoreError, UnknownNodeError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.status_file import AgentStatus, FoundStatus
    from registry_core.contract import Registry
    from registry_core.models.node import Node
    from registry_core.query.conditions import Failing
    from registry_core.query.node_query import NodePage, NodeQuery
    from registry_core.storage.sealing import KeyRing

__all__ = ["RegistryClient", "Target", "find_target", "keys_of", "open_client"]

SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Target:
    """A registry's path or address, and the state directory of the agent here if the registry is that agent's."""

    target: str
    agent_dir: Optional[Path] = None


def find_target(flag: Optional[str], config: Optional[str]) -> Target:
    """The first that is given of `--registry`, `$DUXNET_REGISTRY`, the configuration and the local agent's registry.

    Raises ConfigurationError.
    """
    if flag is not None or os.environ.get("DUXNET_REGISTRY"):
        target = os.environ["DUXNET_REGISTRY"] if flag is None else flag
        if not target or not target.isprintable():
            raise ValidationError(
                "registry", target, "must be the path of a file or an address with http:// or https://"
            )
        return Target(target)
    own = find_local_agent(config)
    return Target(own.registry, own.state_dir)


class RegistryClient:
    """An open registry, and what the local agent knows about its own node."""

    def __init__(self, registry: Registry, status: Optional[FoundStatus]) -> None:
        self.registry = registry
        self.status = status

    def find(self, query: NodeQuery) -> NodePage:
        """The page of nodes that match the query, each as `with_newest_health` returns it.

        The file does not hold the newest health of this machine's node. If that makes the node unready, the query is
        repeated without it, so that it takes no other node's place within the limit.
        """
        page = self.registry.find_nodes(query, unreadable=_leave_out)
        nodes = [self.with_newest_health(node) for node in page.nodes]
        unready = {node.id for node in nodes if not node.is_ready} if query.only_healthy else set()
        if unready:
            page = self.registry.find_nodes(replace(query, exclude={*query.exclude, *unready}), unreadable=_leave_out)
            nodes = [self.with_newest_health(node) for node in page.nodes]
        return page._replace(nodes=nodes)

    def explain(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """The conditions of the query that the node fails. For this machine's node they use the newest health."""
        found = self.registry.explain_node(node_id, query)
        node = self.registry.get_node(node_id)
        newest = None if node is None else self.with_newest_health(node)
        if newest is None or newest is node:
            return found

        stays = [item for item in found if item.condition == "min_uptime_probability"]  # only the registry knows it
        return query.failing(newest) + stays

    def node(self, given_id: str) -> Node:
        """The node with this id or with an id that begins so. Raises UnknownNodeError."""
        node_id = self.whole_id(given_id)
        node = self.registry.get_node(node_id)
        if node is None:
            raise UnknownNodeError(node_id)
        return node

    def whole_id(self, given: str) -> str:
        """The only id that is `given` or begins with it; `given` itself if there is none."""
        try:
            if len(given) < SHORTEST_PREFIX or self.registry.get_node(given) is not None:
                return given
        except StoreError:  # its record is damaged, but an operator can still remove or ban it
            return given
        host = getattr(self.registry, "host", None)  # a registry in a file lists ids without reading records
        ids = host.ids() if host is not None else [node.id for node in self.registry.list_nodes()]
        matches = [node_id for node_id in ids if node_id.startswith(given)]
        if len(matches) > 1:
            raise ValidationError("id", given, f"must be the id of one node; {len(matches)} ids begin with it")
        return matches[0] if matches else given

    def with_newest_health(self, node: Node) -> Node:
        """The node as the local agent last measured it, if it is this machine's node; otherwise the node as given.

        If the agent is not running, the node is not live, although the file does not say so yet.
        """
        found = self._status_of(node)
        if found is None:
            return node
        status = found.status
        if not found.is_running and not self._has_reported_since(node, status):
            from registry_core.models.status import Liveness

            return replace(node, liveness=Liveness.LEFT if status.state == "stopped" else Liveness.DOWN)
        if not found.is_fresh:
            return node
        from registry_core.models.encoding import health_from_plain

        gauges = ("load_average", "memory_usage", "disk_usage")
        plain: dict[str, object] = {name: getattr(status.sample, name, None) for name in gauges}
        plain.update(last_heartbeat=status.written_at, conditions=status.conditions or {})
        try:
            return replace(node, health=health_from_plain(plain))
        except ValidationError:  # no agent wrote this status file
            return node

    @staticmethod
    def _has_reported_since(node: Node, status: AgentStatus) -> bool:
        """Whether the registry received a report after the agent had ended."""
        from registry_core.models.times import time_from_text

        try:
            ended = time_from_text("written_at", status.written_at)
        except ValidationError:
            return True
        seen = node.health.last_heartbeat
        return ended is not None and seen is not None and seen > ended

    def health_age_seconds(self, node: Node) -> Optional[float]:
        """The age of the newest health. For this machine's node it is measured with the monotonic clock."""
        found = self._status_of(node)
        if found is not None and (found.is_fresh or node.health.last_heartbeat is None):
            return found.age_seconds
        if node.health.last_heartbeat is None:
            return None
        from datetime import datetime, timezone

        return (datetime.now(timezone.utc) - node.health.last_heartbeat).total_seconds()

    def _status_of(self, node: Node) -> Optional[FoundStatus]:
        """The local agent's status, if this is its node."""
        return self.status if self.status is not None and self.status.status.node_id == node.id else None


@contextmanager
def open_client(registry: Optional[str], config: Optional[str], *, read_only: bool) -> Iterator[RegistryClient]:
    """Open the registry that the options name for a `with` block. Raises ConfigurationError, RegistryError."""
    from agent.open_registry import is_address, open_registry

    place = find_target(registry, config)
    keys, options = None, None
    if is_address(place.target):
        from agent.settings import RegistrySettings, load_agent_settings

        options = load_agent_settings(config).section("registry", RegistrySettings).remote_options()
    else:
        path = Path(place.target)
        if _is_closed(place.target):
            raise StoreError(place.target, "this user cannot read it: use sudo")
        if place.agent_dir is not None and not path.exists():
            raise StoreError(
                place.target, "there is no registry yet: start an agent (duxnet agent), or name one with --registry"
            )
        keys = keys_of(path, None, config, needed=False) if path.is_file() else None
    opened = open_registry(place.target, read_only=read_only, keys=keys, options=options)
    try:
        yield RegistryClient(opened, _local_status(place))
    finally:
        opened.close()


def keys_of(place: Path, key_file: Optional[Path], config: Optional[str], *, needed: bool) -> Optional[KeyRing]:
    """The keys for the registry at `place`; None if it is not sealed or no source has keys.

    A key file that is given is always read. With `needed` False an unreadable registry is no error here, because the
    command itself reports it. Raises StoreError, ValidationError, ConfigurationError.
    """
    from registry_core.storage.key_sources import find_keys, read_key_file
    from registry_core.storage.maintenance.verify import sealed_with

    if key_file is not None:
        return read_key_file(key_file)
    try:
        is_sealed = bool(sealed_with(place))
    except StoreError:
        if needed:
            raise
        return None
    return find_keys(find_local_agent(config).key_file, os.environ) if is_sealed else None


def _leave_out(_error: DamagedStoreError) -> None:
    """A damaged node must not prevent the list; the page counts it."""


def _is_closed(target: str) -> bool:
    """Whether this user cannot enter a folder of the path, such as that of a service."""
    try:
        Path(target).stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _local_status(place: Target) -> Optional[FoundStatus]:
    from agent.status_file import find_status

    folder = place.agent_dir or Path(place.target).parent
    found = find_status(folder, os.environ)
    if found is None or os.path.realpath(found.status.registry) != os.path.realpath(place.target):
        return None
    return found
