"""Values that cannot be changed: a map, and JSON values made of such maps and tuples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from registry_core.errors import ValidationError

__all__ = ["frozen_json", "frozen_json_map", "thawed"]

MAX_DEPTH = 32
_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**64 - 1  # the range of every JSON library that we use


def frozen_json_map(field: str, value: object) -> FrozenMap[str, Any]:
    """A map from text to JSON values, with maps as FrozenMap and lists as tuples. Raises ValidationError."""
    if type(value) is FrozenMap and not value:
        return value
    if not isinstance(value, Mapping):
        raise ValidationError(field, value, "must map field names to JSON values")
    frozen: FrozenMap[str, Any] = frozen_json(field, value)
    return frozen


def frozen_json(field: str, value: object, depth: int = 0) -> Any:
    """`value` as immutable JSON values. Raises ValidationError for anything else."""
    if type(value) is str and value.isascii():  # nearly all values
        return value
    if depth > MAX_DEPTH:
        raise ValidationError(field, "…", f"must not be nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(field, value)
    if isinstance(value, int) and _LEAST_INTEGER <= value <= _MOST_INTEGER:
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
        raise ValidationError(field, text, "must not contain half of a surrogate pair") from None
    return str(text)


K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(dict[K, V]):
    """A dict that raises TypeError on every change."""

    def _refuse(self, *_args: object, **_keywords: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be changed; make a new record instead")

    __setitem__ = __delitem__ = __ior__ = _refuse  # every method that changes it
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict is unhashable, this one never changes
        return hash(frozenset(self.items()))

    def __copy__(self) -> FrozenMap[K, V]:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> FrozenMap[K, V]:
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[K, V]]]:
        return type(self), (dict(self),)
