"""A NodeRegistry behind HTTP, for many agents. Needs the extra `coordinator`."""
