"""The registry's only thread, which writes health samples, so that heartbeats do not wait for the disk.

It starts with the first samples and sleeps when it has none. A process that ends does not wait for it: the next samples
replace those that are lost.
"""

from __future__ import annotations

import logging
import math
import threading
from array import array
from collections.abc import Iterable, Iterator
from typing import Optional, Protocol

from registry_core.errors import RegistryError
from registry_core.models.status import Sampled
from registry_core.storage.sqlite.rows import id_hash, sample_values

__all__ = ["SampleWriter", "Samples"]

_log = logging.getLogger(__name__)
_VALUES = 5  # of one sample: see `sample_values`


class Samples:
    """Samples of many nodes in 48 bytes each: a million small objects would take too much memory."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._values = array("d")

    @classmethod
    def of(cls, samples: Iterable[Sampled]) -> Samples:
        """A copy of `samples`."""
        taken = cls()
        for sample in samples:
            taken._ids.append(sample.node_id)
            taken._values.extend(math.nan if value is None else value for value in sample_values(sample))
        return taken

    def __len__(self) -> int:
        return len(self._ids)

    def pieces(self, at_once: int) -> Iterator[Iterator[tuple[object, ...]]]:
        """The values of `PUT_SAMPLE`, at most `at_once` at a time."""
        for start in range(0, len(self._ids), max(1, at_once)):
            yield self._piece(range(start, min(start + at_once, len(self._ids))))

    def _piece(self, places: range) -> Iterator[tuple[object, ...]]:
        for place in places:
            node_id = self._ids[place]
            values = self._values[place * _VALUES : (place + 1) * _VALUES]
            yield (*(None if value != value else value for value in values), id_hash(node_id), node_id)


class _Write(Protocol):
    def __call__(self, samples: Samples, *, flush: bool) -> None: ...


class SampleWriter:
    """Passes samples to `write` on its own thread, in the order of `hand_over`."""

    def __init__(self, write: _Write) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._waiting: list[Samples] = []
        self._busy = False
        self._closed = False
        self._thread: Optional[threading.Thread] = None

    def hand_over(self, samples: Samples) -> None:
        """Queue the samples and return at once."""
        with self._changed:
            self._waiting.append(samples)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="duxnet-samples", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Return when all queued samples have been written."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None or not (self._waiting or self._busy))

    def close(self) -> None:
        """Write the queued samples, then end the thread. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            while (samples := self._next()) is not None:
                try:
                    self._write(samples, flush=False)
                except RegistryError as error:  # the next samples replace these
                    _log.warning("health samples were not saved; the next ones will be tried: %s", error)
        finally:  # however it ends, wake waiting callers, and let the next samples start another thread
            with self._changed:
                self._thread = None
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> Optional[Samples]:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._busy = True
            return self._waiting.pop(0)
