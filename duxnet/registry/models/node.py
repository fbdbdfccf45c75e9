"""`from duxnet.registry.models.node import Node, NodeCapabilities`: the same classes as `registry_core`'s."""

from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.status import NodeHealth

__all__ = ["Gpu", "Node", "NodeCapabilities", "NodeHealth"]
