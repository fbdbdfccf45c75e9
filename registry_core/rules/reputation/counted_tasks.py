"""The task ids that were counted, so that each task counts once: bounded, and small enough for a node's record."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from registry_core.rules.reputation.policy import DEFAULT_POLICY, ReputationPolicy

__all__ = ["DIGEST_CHARACTERS", "CountedTasks"]

DIGEST_CHARACTERS = 11  # 8 bytes in base64 without padding
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class CountedTasks:
    """`days` holds (day number since 1970, the concatenated digests of that day), oldest first.

    A digest has 64 bits: among 1,024 ids a collision occurs in one of 10¹³ nodes, and then one task is not counted.
    """

    days: tuple[tuple[int, str], ...] = ()

    def __contains__(self, task_id: str) -> bool:
        digest = _digest(task_id)
        return any(_holds(digests, digest) for _, digests in self.days)

    def __len__(self) -> int:
        return sum(len(digests) for _, digests in self.days) // DIGEST_CHARACTERS

    def with_task(self, task_id: str, at_seconds: float, policy: ReputationPolicy = DEFAULT_POLICY) -> CountedTasks:
        """The record with `task_id` counted at this Unix time; drops the oldest beyond the policy's bounds."""
        day = int(at_seconds // _DAY_SECONDS)
        if self.days:
            day = max(day, self.days[-1][0])  # keeps the days sorted if the clock was set back
        kept = [entry for entry in self.days if entry[0] > day - policy.task_memory_days]
        if kept and kept[-1][0] == day:
            kept[-1] = (day, kept[-1][1] + _digest(task_id))
        else:
            kept.append((day, _digest(task_id)))
        surplus = sum(len(digests) for _, digests in kept) - policy.tasks_remembered * DIGEST_CHARACTERS
        while surplus > 0:
            first_day, digests = kept[0]
            kept[0:1] = [(first_day, digests[surplus:])] if len(digests) > surplus else []
            surplus -= len(digests)
        return CountedTasks(tuple(kept))

    def to_plain(self) -> list[list[object]]:
        """[[day, digests], …]."""
        return [[day, digests] for day, digests in self.days]


def _digest(task_id: str) -> str:
    raw = hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _holds(digests: str, digest: str) -> bool:
    place = digests.find(digest)
    while place > 0 and place % DIGEST_CHARACTERS:
        place = digests.find(digest, place + 1)
    return place >= 0
