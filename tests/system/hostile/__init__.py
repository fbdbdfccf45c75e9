"""Attacks, each with the right outcome: the kind of fault, and not only the input that showed it first."""
