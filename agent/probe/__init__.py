"""Measuring the machine: sources read, parsers parse, probes make readings, one runner runs them all."""
