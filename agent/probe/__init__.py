"""Measures the machine: sources read, parsers parse, probes produce readings, and one runner runs all probes."""
