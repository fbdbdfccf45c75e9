"""All routes: `table` lists them, and there is one module for each kind of caller."""
