"""Whole systems: processes, sockets, disks and people who mean harm."""
