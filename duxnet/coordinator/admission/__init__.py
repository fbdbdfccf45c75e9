"""How a node gets in."""
