"""What names a registry: a path, or an address reached over HTTP."""

from __future__ import annotations

from registry_core.errors import ValidationError

__all__ = ["check_target", "is_address"]


def is_address(target: str) -> bool:
    """True for something like `http://…`, which is reached over the network."""
    return "://" in target


def check_target(target: str) -> None:
    """Refuse what can be no registry, without opening it. Raises ValidationError."""
    if is_address(target):
        if not target.startswith(("http://", "https://")):
            raise ValidationError("registry", target, "must be a path, or an address with http:// or https://")
        return
    from registry_core.storage.open_store import checked_path

    try:
        checked_path(target)
    except ValidationError as error:
        rule = f"{error.rule}; an address begins with http:// or https://"
        raise ValidationError("registry", target, rule) from None
