"""Decisions as pure functions: time is an argument, and nothing does I/O, reads a clock or logs."""
