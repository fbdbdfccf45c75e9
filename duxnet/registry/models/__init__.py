"""Re-exports of `registry_core.models`."""
