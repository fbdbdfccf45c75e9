"""The registry in this process: commands on their way to the disk, what callers see, what outlives a node."""
