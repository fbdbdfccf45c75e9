"""Every exception that the registry raises. Branch on who is at fault and whether trying again can help.

Here: the hierarchy and the text of each error. Not here: how a library's own exceptions are translated;
that happens at the border where the library is called.
"""

from __future__ import annotations

import re
from typing import Optional

__all__ = [
    "DamagedStoreError",
    "EventsCompacted",
    "NotSupportedError",
    "ReadOnlyError",
    "RegistryClosedError",
    "RefusedError",
    "RegistryError",
    "SealedStoreError",
    "StoreError",
    "StoreInUseError",
    "UnknownNodeError",
    "UnreachableError",
    "UnsupportedSchemaError",
    "ValidationError",
]

_LONGEST_VALUE_SHOWN = 80
_LONGEST_FIELD_SHOWN = 160
_LONGEST_PATH_SHOWN = 200


INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What is drawn as nothing although it counts as a letter, a mark or a symbol: joiners, fillers, variation selectors,
the empty Braille pattern (Unicode: Default_Ignorable_Code_Point without the categories C and Z)."""


def shown(value: object) -> str:
    """A value as it may stand in an error text: escaped (it ends in terminals and logs) and short."""
    text = ascii(value[: _LONGEST_VALUE_SHOWN + 1]) if isinstance(value, (str, bytes)) else _ascii(value)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else text[: _LONGEST_VALUE_SHOWN - 1] + "…"


def shown_path(path: str) -> str:
    """A path as it may stand in an error text; of a long one the end, where the file's name is."""
    text = ascii(path)
    return text if len(text) <= _LONGEST_PATH_SHOWN else "'…" + text[1 - _LONGEST_PATH_SHOWN :]


def printable(text: str) -> str:
    """`text` in one line without what a terminal would act on: controls and their kin are written as escapes."""
    if text.isprintable() and text.isascii():
        return text
    seen = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], seen)


def reason_of(error: BaseException) -> str:
    """What went wrong, in the system's own words where it has any, such as `No space left on device`."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _ascii(value: object) -> str:
    try:
        return ascii(value)
    except (ValueError, RecursionError):  # an int beyond the digit limit, a container that holds itself
        return f"<{type(value).__name__}>"


def _escaped(field: str) -> str:
    """A field's path as it may stand in an error text: keys of maps come from files and from the network."""
    text = ascii(field)[1:-1]
    return text if len(text) <= _LONGEST_FIELD_SHOWN else text[: _LONGEST_FIELD_SHOWN - 1] + "…"


class RegistryError(Exception):
    """Root of all errors that this package raises on purpose."""


class ValidationError(RegistryError, ValueError):
    """The caller passed something that cannot be accepted. Nothing was changed; trying again cannot help.

    `field` is the dotted path of the field, `value` what was given, `rule` what it must be.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        return f"{_escaped(self.field)}: {shown(self.value)} is not accepted: {self.rule}"

    def within(self, parent: str) -> ValidationError:
        """The same error seen from an enclosing record: `cpu_cores` within `capabilities`."""
        separator = "" if self.field.startswith("[") else "."
        return ValidationError(f"{parent}{separator}{self.field}", self.value, self.rule)


class UnknownNodeError(RegistryError, LookupError):
    """No node with this id is registered. An agent answers this by registering again."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        return f"no node is registered under the id {shown(self.node_id)}"


class ReadOnlyError(RegistryError):
    """The registry was opened with `read_only=True`, or the calling process does not own it."""


class RegistryClosedError(RegistryError):
    """The registry was closed; open it again."""


class NotSupportedError(RegistryError):
    """This version, or this kind of registry, cannot do what was asked. The text says what can."""


class EventsCompacted(RegistryError):  # noqa: N818 - named in the public description
    """Events older than the ring were asked for: read the whole list again, then follow from `oldest_index`."""

    def __init__(self, asked_index: int, oldest_index: int) -> None:
        super().__init__(asked_index, oldest_index)
        self.asked_index = asked_index
        self.oldest_index = oldest_index

    def __str__(self) -> str:
        return f"events after {self.asked_index} are no longer kept; the oldest kept is {self.oldest_index}"


class StoreError(RegistryError):
    """The place where the registry is kept cannot be read or written. `path` names it.

    Nothing that was acknowledged is lost. Trying again can help once the reason is mended (disk full,
    permission, a device that failed).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown_path(self.path)}: {self.reason}"


class StoreInUseError(StoreError):
    """Another process has the registry open for writing. `holder_pid` is its process id where known."""

    def __init__(self, path: str, holder_pid: Optional[int]) -> None:
        holder = f"process {holder_pid}" if holder_pid is not None else "another process"
        super().__init__(
            path,
            f"{holder} has this registry open for writing; make the change through it, or stop it first "
            "(to read beside it: read_only=True)",
        )
        self.holder_pid = holder_pid


class DamagedStoreError(StoreError):
    """What is kept there cannot be understood. The file is left as it is; `where` says what is wrong where.

    `node_id` is the node whose record it is, where no other's is concerned: a query that excludes it gets the others.
    """

    def __init__(self, path: str, where: str, node_id: Optional[str] = None) -> None:
        super().__init__(path, f"{where}; the file is left as it is")
        self.where = where
        self.node_id = node_id


class SealedStoreError(StoreError):
    """The key is missing, wrong, or given for a place that is not sealed. Nothing was changed; no key is shown."""


class UnsupportedSchemaError(StoreError):
    """The file belongs to another program or to a newer major version of this one."""

    def __init__(self, path: str, found: str, supported: str) -> None:
        super().__init__(path, f"schema {shown(found)} is not supported: this version reads {supported}")
        self.found = found
        self.supported = supported


class UnreachableError(RegistryError):
    """A registry over the network does not answer, or asks to be left alone for now. Trying again later can help.

    `address` is what was asked; `retry_after_seconds` is how long it asked to wait, where it said so.
    """

    def __init__(self, address: str, reason: str, retry_after_seconds: Optional[float] = None) -> None:
        super().__init__(address, reason, retry_after_seconds)
        self.address = address
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{shown(self.address)}: {self.reason}"


class RefusedError(RegistryError):
    """A registry over the network refuses this caller. Trying again cannot help until what `remedy` says is done.

    `code` names the kind of problem (`bad-signature`, `duplicate-identity`, `not-allowed`, `banned`, …).
    """

    def __init__(self, code: str, reason: str, remedy: str = "") -> None:
        super().__init__(code, reason, remedy)
        self.code = code
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason
