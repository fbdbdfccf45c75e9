"""One keyed sum over all rows of a store, which detects rows that were changed, removed, added or put back.

The sum of a row is the keyed BLAKE2b-128 of its id and its packed bytes before sealing. The sums of all rows are added
mod 2¹²⁸, so that a commit updates the total from the rows that it changes. The total has a mark that only a holder of
the key can make. Sealing and its keys do not affect the sums, which `sqlite.rows` stores.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Optional

__all__ = ["SUM_BYTES", "SUM_KEY_BYTES", "StateSum", "SumKey", "added"]

SUM_BYTES = 16
SUM_KEY_BYTES = 32
_MODULUS = 1 << (8 * SUM_BYTES)


def added(total: int, more: int) -> int:
    """The total after adding `more`, which may be negative."""
    return (total + more) % _MODULUS


class SumKey:
    """The key of a store's sums. `repr` and errors never show it; `id` may be shown."""

    __slots__ = ("_begun_node", "_begun_tombstone", "_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != SUM_KEY_BYTES:
            raise ValueError(f"a sum key has {SUM_KEY_BYTES} bytes")
        self._key = key
        self._begun_node = blake2b(digest_size=SUM_BYTES, key=key, person=b"node")  # copying it costs half as much
        self._begun_tombstone = blake2b(digest_size=SUM_BYTES, key=key, person=b"removed")
        self.id = blake2b(b"id", digest_size=8, key=key, person=b"duxnet-sum-id").hexdigest()

    def __repr__(self) -> str:
        return f"<SumKey {self.id}>"

    def of_node(self, node_id: str, packed: bytes) -> bytes:
        """The sum of a node's row."""
        name = node_id.encode("utf-8", "surrogatepass")
        begun = self._begun_node.copy()
        begun.update(len(name).to_bytes(4, "big") + name + packed)
        return begun.digest()

    def of_tombstone(self, kind: str, key: str, packed: bytes) -> bytes:
        """The sum of a tombstone's row."""
        names = [name.encode("utf-8", "surrogatepass") for name in (kind, key)]
        begun = self._begun_tombstone.copy()
        begun.update(b"".join(len(name).to_bytes(4, "big") + name for name in names) + packed)
        return begun.digest()

    def mark(self, total: int, commit: int) -> str:
        """The proof that this commit left this total."""
        content = total.to_bytes(SUM_BYTES, "big") + commit.to_bytes(8, "big")
        return blake2b(content, digest_size=SUM_BYTES, key=self._key, person=b"duxnet-sum-all").hexdigest()


class StateSum:
    """The sum over all rows as a store keeps it: the total, the id of its key, and its mark."""

    __slots__ = ("key_id", "mark", "total")

    def __init__(self, total: int, key_id: str, mark: str) -> None:
        self.total = total
        self.key_id = key_id
        self.mark = mark

    @classmethod
    def of(cls, key: SumKey, total: int, commit: int) -> StateSum:
        """The sum after this commit."""
        return cls(total, key.id, key.mark(total, commit))

    @classmethod
    def of_text(cls, text: object) -> StateSum:
        """The sum that `to_text` wrote. Raises ValueError."""
        total, key_id, mark = str(text).split(" ")
        number = int(total, 16)
        if not 0 <= number < _MODULUS:
            raise ValueError("not a sum")
        return cls(number, key_id, mark)

    def to_text(self) -> str:
        """The text that a store keeps."""
        return f"{self.total:032x} {self.key_id} {self.mark}"

    def is_marked(self, key: Optional[SumKey], commit: int) -> bool:
        """Whether its mark is right; True also when it cannot be checked, because `key` is not its key."""
        if key is None or key.id != self.key_id:
            return True
        return hmac.compare_digest(self.mark, key.mark(self.total, commit))
