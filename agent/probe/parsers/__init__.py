"""Parsers convert text to values. They access nothing and never raise: what cannot be parsed is left out."""
