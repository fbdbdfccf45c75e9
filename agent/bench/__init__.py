"""Measuring what the machine does, not what it has: short rounds in processes of their own, under a deadline."""
