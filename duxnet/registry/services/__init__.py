"""Re-exports of `registry_core`'s services."""
