"""A dict that cannot be changed: the type of `tags` and `extra`, so that a snapshot's owner changes nothing else."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(dict[K, V]):
    """Reads like a dict, prints like a dict, encodes like a dict, and refuses every change with TypeError."""

    def _refuse(self, *_args: object, **_keywords: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be changed; make a new record instead")

    __setitem__ = __delitem__ = __ior__ = _refuse  # every way to change it
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict is unhashable, this one never changes
        return hash(frozenset(self.items()))

    def __copy__(self) -> FrozenMap[K, V]:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> FrozenMap[K, V]:
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[K, V]]]:
        return type(self), (dict(self),)
