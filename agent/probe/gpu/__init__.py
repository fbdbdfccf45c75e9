"""GPUs of all vendors: found on the PCI bus and queried in the vendor's way, each with a reason if not usable."""
