"""One keyed sum over all that a store holds: a row that was changed, removed, added or put back shows in it.

Here: the sum of a row, adding up, and the mark that only who has the key can set. Not here: where sums lie
(`sqlite.rows`), when they are compared. Each row has the keyed BLAKE2b-128 of its id and its packed bytes before
sealing; these are added mod 2¹²⁸, so that a commit changes the whole by what it changed. Sealing and its keys do not
matter.
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
    """The total after this much more, or less."""
    return (total + more) % _MODULUS


class SumKey:
    """The key of a store's sums. Neither `repr` nor an error shows it; `id` may be shown."""

    __slots__ = ("_begun_node", "_begun_tombstone", "_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != SUM_KEY_BYTES:
            raise ValueError(f"a key of sums has {SUM_KEY_BYTES} bytes")
        self._key = key
        self._begun_node = blake2b(digest_size=SUM_BYTES, key=key, person=b"node")  # a copy costs half
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
        """What proves that the total is that of this commit."""
        said = total.to_bytes(SUM_BYTES, "big") + commit.to_bytes(8, "big")
        return blake2b(said, digest_size=SUM_BYTES, key=self._key, person=b"duxnet-sum-all").hexdigest()


class StateSum:
    """The sum over all rows, as a store keeps it: the total, which key made it, and its mark."""

    __slots__ = ("key_id", "mark", "total")

    def __init__(self, total: int, key_id: str, mark: str) -> None:
        self.total = total
        self.key_id = key_id
        self.mark = mark

    @classmethod
    def of(cls, key: SumKey, total: int, commit: int) -> StateSum:
        """The sum of the state that this commit left."""
        return cls(total, key.id, key.mark(total, commit))

    @classmethod
    def of_text(cls, text: object) -> StateSum:
        """What `to_text` wrote. Raises ValueError."""
        total, key_id, mark = str(text).split(" ")
        number = int(total, 16)
        if not 0 <= number < _MODULUS:
            raise ValueError("no sum")
        return cls(number, key_id, mark)

    def to_text(self) -> str:
        """As it is kept."""
        return f"{self.total:032x} {self.key_id} {self.mark}"

    def is_marked(self, key: Optional[SumKey], commit: int) -> bool:
        """Whether its mark is right; True as well where that cannot be judged, without its key."""
        if key is None or key.id != self.key_id:
            return True
        return hmac.compare_digest(self.mark, key.mark(self.total, commit))
