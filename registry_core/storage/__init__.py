"""Where a registry is kept. `contract.py` says what every store promises."""
