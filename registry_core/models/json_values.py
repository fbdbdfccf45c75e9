"""Values of fields that this version does not know: checked to be JSON, frozen, and not without end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry_core.errors import ValidationError
from registry_core.models.frozen_map import FrozenMap

__all__ = ["frozen_json", "frozen_json_map", "thawed"]

MAX_DEPTH = 32
_MAX_INTEGER = 2**64


def frozen_json_map(field: str, value: object) -> FrozenMap[str, Any]:
    """A map from text to JSON values, with maps as FrozenMap and lists as tuples. Raises ValidationError."""
    if type(value) is FrozenMap and not value:
        return value
    if not isinstance(value, Mapping):
        raise ValidationError(field, value, "must map field names to JSON values")
    frozen: FrozenMap[str, Any] = frozen_json(field, value)
    return frozen


def frozen_json(field: str, value: object, depth: int = 0) -> Any:
    """`value` without anything that can be changed. Raises ValidationError for what is not JSON."""
    if type(value) is str and value.isascii():  # nearly all that there is
        return value
    if depth > MAX_DEPTH:
        raise ValidationError(field, "…", f"must not be nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(field, value)
    if isinstance(value, int) and abs(value) < _MAX_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return tuple(frozen_json(field, item, depth + 1) for item in value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return FrozenMap({_encodable(field, key): frozen_json(field, item, depth + 1) for key, item in value.items()})
    raise ValidationError(field, value, "must be a JSON value: text, a finite number, true, false, null, a list, a map")


def thawed(value: Any) -> Any:
    """A frozen JSON value as plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thawed(item) for item in value]
    return value


def _encodable(field: str, text: str) -> str:
    if text.isascii():
        return str(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValidationError(field, text, "must not hold half of a surrogate pair") from None
    return str(text)
