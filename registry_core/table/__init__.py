"""All that stays in memory: one slot a node, in order of registration. Records are elsewhere (`storage`)."""
