"""GPUs of every vendor: found on the PCI bus, asked in the vendor's own way, each one offered or told why not."""
