"""Frozen records of a node: its description, health and reputation. No I/O."""
