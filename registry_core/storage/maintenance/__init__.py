"""Care for a registry's file: verify, back up, restore, migrate."""
