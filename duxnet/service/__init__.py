"""The units on this machine: what they are, installing and removing them, asking systemd about them."""
