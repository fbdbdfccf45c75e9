"""The registry's data in memory: one slot per node, in order of registration. Records are in `storage`."""
