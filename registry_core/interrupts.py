"""Ctrl-C at a moment when half a change would be worse than a late answer.

Here: keeping an interrupt until the end of a block. Not here: which blocks; other signals, which are the host's.
"""

from __future__ import annotations

import signal
import threading

__all__ = ["KeptInterrupts"]


class KeptInterrupts:
    """`with KeptInterrupts():` Ctrl-C within raises KeyboardInterrupt at the end. Some 10 µs, on the main thread only.

    A handler of the host's own is left alone: those of asyncio and of our processes do not raise.
    """

    __slots__ = ("_came", "_keeps")

    def __enter__(self) -> None:
        self._came = False
        main = threading.current_thread() is threading.main_thread()
        self._keeps = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._keeps:
            signal.signal(signal.SIGINT, self._keep)

    def __exit__(self, *_error: object) -> None:
        if self._keeps:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._came:
            raise KeyboardInterrupt

    def _keep(self, *_signal: object) -> None:
        self._came = True
