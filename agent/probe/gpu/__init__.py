"""Finding GPUs: PCI classes for every maker, one reader file for each maker that says more.

A reader is a module here with

    def read(source: Source, devices: Sequence[PciDevice]) -> list[GpuFinding]

It gets its maker's PCI devices, which may be none (a GPU that is not on PCI), and returns one finding for each, or
several where one device is several offers (MIG instances). It reads through `source` only, so that it can be
replayed; what needs a child process is a question of `agent.probe.calls`. It never raises for what a machine may
hold: that is a finding with `usable=False` and a `reason`. Readers are listed in `readers.py` and nowhere else.
"""
