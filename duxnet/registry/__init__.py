"""The public import path of the node registry: re-exports of `registry_core`, nothing more."""
