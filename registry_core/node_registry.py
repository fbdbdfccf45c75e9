"""NodeRegistry: the door of the embedded registry. Nothing but the order of steps stands here."""

from __future__ import annotations

__all__ = ["NodeRegistry"]


class NodeRegistry:
    """The embedded registry."""
