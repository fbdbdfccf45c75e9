"""Queries for nodes: their conditions, why a node fails them, and their form in a URL."""
