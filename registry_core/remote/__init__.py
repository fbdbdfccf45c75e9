"""A registry on another machine, reached over HTTP. The only package that imports httpx."""

from registry_core.remote.options import RemoteOptions
from registry_core.remote.remote_registry import RemoteRegistry

__all__ = ["RemoteOptions", "RemoteRegistry"]
