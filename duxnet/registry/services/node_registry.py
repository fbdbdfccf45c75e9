"""`from duxnet.registry.services.node_registry import NodeRegistry`: the same class as `registry_core`'s."""

from registry_core.embedded.node_registry import NodeRegistry

__all__ = ["NodeRegistry"]
