"""Texts by key in the store's `meta`, the newest so many: what the registry remembers beside its nodes.

Here: which key has which place, and what goes when a place is used again. Not here: what the texts say.
"""

from __future__ import annotations

from typing import Optional

from registry_core.embedded.transactions import Transactions, UnitOfWork

__all__ = ["TextRing"]


class TextRing:
    """A ring of `size` places, each with a key. Called inside commands.

    In the store, `{name}.next` numbers the next place, `{name}.place.N` holds a key and `{name}.{entry}.KEY` its text.
    """

    def __init__(self, transactions: Transactions, name: str, entry: str, size: int) -> None:
        self._transactions = transactions
        self._next_name, self._place, self._entry = f"{name}.next", f"{name}.place.", f"{name}.{entry}."
        self._size = size
        self._next: Optional[int] = None  # counted here, so that no command depends on another one's place

    def get(self, unit: UnitOfWork, key: str) -> Optional[str]:
        """The newest text of the key."""
        return self._transactions.text(self._entry + key, unit)

    def put(self, unit: UnitOfWork, key: str, text: str) -> None:
        """Keep the text; a key that has none takes the next place, from the key that had it."""
        if self.get(unit, key) is None:
            self._take_place(unit, key)
        self._transactions.put_text(unit, self._entry + key, text)

    def remove(self, unit: UnitOfWork, key: str) -> None:
        """Keep no text of the key."""
        self._transactions.put_text(unit, self._entry + key, None)

    def _take_place(self, unit: UnitOfWork, key: str) -> None:
        if self._next is None:
            self._next = int(self._transactions.text(self._next_name, unit) or "0")
        place = f"{self._place}{self._next % self._size}"
        oldest = self._transactions.text(place, unit)
        if oldest is not None:
            self.remove(unit, oldest)
        self._next += 1
        self._transactions.put_text(unit, self._next_name, str(self._next))
        self._transactions.put_text(unit, place, key)
