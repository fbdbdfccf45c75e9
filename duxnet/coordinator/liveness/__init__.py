"""Liveness of many nodes: the clock, and detection of mass failures."""
