"""Every route: `table` lists them, and there is one file for each kind of caller."""
