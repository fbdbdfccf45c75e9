"""The systemd units of this machine: their text, their installation and removal, and their state."""
