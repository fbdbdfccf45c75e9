"""Every exception that the registry raises, divided by who is at fault and whether a retry can help.

Exceptions of other libraries are translated where the library is called, not here.
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
"""Characters that are letters, marks or symbols but are displayed as nothing: joiners, fillers, variation selectors
and the empty Braille pattern (Unicode: Default_Ignorable_Code_Point without the categories C and Z)."""


def shown(value: object) -> str:
    """The value for an error text: escaped, since it reaches terminals and logs, and shortened."""
    text = ascii(value[: _LONGEST_VALUE_SHOWN + 1]) if isinstance(value, (str, bytes)) else _ascii(value)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else text[: _LONGEST_VALUE_SHOWN - 1] + "…"


def shown_path(path: str) -> str:
    """The path for an error text; a long path is cut at the front, so that the file name stays."""
    text = ascii(path)
    return text if len(text) <= _LONGEST_PATH_SHOWN else "'…" + text[1 - _LONGEST_PATH_SHOWN :]


def printable(text: str) -> str:
    """`text` on one line, with control and invisible characters escaped, so that a terminal cannot act on them."""
    if text.isprintable() and text.isascii():
        return text
    seen = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], seen)


def reason_of(error: BaseException) -> str:
    """The reason of an error: the operating system's message if there is one, such as `No space left on device`."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _ascii(value: object) -> str:
    try:
        return ascii(value)
    except (ValueError, RecursionError):  # an int beyond the digit limit, a container that holds itself
        return f"<{type(value).__name__}>"


def _escaped(field: str) -> str:
    """The field's path for an error text, escaped: keys of maps come from files and from the network."""
    text = ascii(field)[1:-1]
    return text if len(text) <= _LONGEST_FIELD_SHOWN else text[: _LONGEST_FIELD_SHOWN - 1] + "…"


class RegistryError(Exception):
    """The base of all errors that this package raises on purpose."""


class ValidationError(RegistryError, ValueError):
    """The caller passed an invalid value. Nothing was changed; a retry cannot help.

    `field` is the dotted path of the field, `value` the value given, `rule` what the value must be.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        return f"{_escaped(self.field)}: {shown(self.value)} is not accepted: {self.rule}"

    def within(self, parent: str) -> ValidationError:
        """The same error with the field's path inside an enclosing record: `cpu_cores` within `capabilities`."""
        separator = "" if self.field.startswith("[") else "."
        return ValidationError(f"{parent}{separator}{self.field}", self.value, self.rule)


class UnknownNodeError(RegistryError, LookupError):
    """No node with this id is registered. An agent then registers again."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        return f"no node is registered under the id {shown(self.node_id)}"


class ReadOnlyError(RegistryError):
    """The registry was opened with `read_only=True`, or by the parent of this process."""


class RegistryClosedError(RegistryError):
    """The registry was closed before the call."""


class NotSupportedError(RegistryError):
    """This version or kind of registry does not support the call. The text names an alternative."""


class EventsCompacted(RegistryError):  # noqa: N818 - named in the public description
    """The requested events are older than the ring: read the whole list again, then follow from `oldest_index`."""

    def __init__(self, requested_index: int, oldest_index: int) -> None:
        super().__init__(requested_index, oldest_index)
        self.requested_index = requested_index
        self.oldest_index = oldest_index

    def __str__(self) -> str:
        return f"events after {self.requested_index} are no longer available; the oldest one is {self.oldest_index}"


class StoreError(RegistryError):
    """The store at `path` cannot be read or written.

    No acknowledged change is lost. A retry can help once the cause is fixed (full disk, permissions, failed device).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown_path(self.path)}: {self.reason}"


class StoreInUseError(StoreError):
    """Another process has the registry open for writing. `holder_pid` is its process id, if known."""

    def __init__(self, path: str, holder_pid: Optional[int]) -> None:
        holder = f"process {holder_pid}" if holder_pid is not None else "another process"
        super().__init__(
            path,
            f"{holder} has this registry open for writing; make the change through it, or stop it first "
            "(reading is possible meanwhile)",
        )
        self.holder_pid = holder_pid


class DamagedStoreError(StoreError):
    """The stored data is damaged. The file is not changed; `where` says which part is wrong and why.

    `node_id` is set when only that node's record is damaged: a query that excludes the node returns all others.
    """

    def __init__(self, path: str, where: str, node_id: Optional[str] = None) -> None:
        super().__init__(path, f"{where}; the file was not changed")
        self.where = where
        self.node_id = node_id


class SealedStoreError(StoreError):
    """The key is missing or wrong, or was given for a store that is not sealed. Nothing was changed.

    The text never contains a key.
    """


class UnsupportedSchemaError(StoreError):
    """The file belongs to another program or to a newer major version of this one."""

    def __init__(self, path: str, found: str, supported: str) -> None:
        super().__init__(path, f"schema {shown(found)} is not supported: this version reads {supported}")
        self.found = found
        self.supported = supported


class UnreachableError(RegistryError):
    """A remote registry does not answer, or asks its clients to retry later. A later retry can help.

    `address` is the address of the registry; `retry_after_seconds` is the wait that it requested, if any.
    """

    def __init__(self, address: str, reason: str, retry_after_seconds: Optional[float] = None) -> None:
        super().__init__(address, reason, retry_after_seconds)
        self.address = address
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{shown(self.address)}: {self.reason}"


class RefusedError(RegistryError):
    """A remote registry refuses this caller. A retry cannot help before the `remedy` is applied.

    `code` is the kind of problem (`bad-signature`, `duplicate-identity`, `not-allowed`, `banned`, …).
    """

    def __init__(self, code: str, reason: str, remedy: str = "") -> None:
        super().__init__(code, reason, remedy)
        self.code = code
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason
