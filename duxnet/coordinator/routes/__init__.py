"""One file for each kind of caller: nodes, operators, readers, monitoring."""
