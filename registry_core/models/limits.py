"""The limits of all fields in one table, and the checks that use it.

A value beyond a limit raises a ValidationError that names the limit. The limits keep a record below 16 KiB, keep
nonsense (2⁶⁴−1 GPUs) out of the registry, and keep texts for terminals and logs printable.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Optional, TypeVar

from registry_core.errors import INVISIBLE, ValidationError

_E = TypeVar("_E", bound=Enum)

MAX_RECORD_BYTES = 16 * 1024

MAX_TEXT_CHARACTERS = {
    "id": 128,
    "wallet_address": 128,
    "wallet_proof": 1024,
    "hostname": 253,
    "os_version": 128,
    "agent_version": 64,
    "public_key": 64,
    "cpu_model": 128,
    "architecture": 32,
    "kernel": 128,
    "gpu.vendor": 64,
    "gpu.model": 128,
    "gpu.uuid": 96,
    "gpu.driver_version": 64,
    "gpu.reason": 256,
    "tag key": 63,
    "tag value": 256,
    "extra name": 128,
    "reason": 256,
    "actor": 128,
}
MAX_TAGS = 64
MAX_ADDRESSES = 64
MAX_GPUS = 256

MAX_CPUS = 65_536  # Linux supports at most 8,192 (NR_CPUS); a margin for the future
MAX_MEMORY_GB = 1_000_000.0  # 1 PB
MAX_STORAGE_GB = 1_000_000_000.0  # 1 EB
MAX_GPU_MEMORY_GB = 100_000.0
MAX_LOAD_AVERAGE = 1_000_000.0
MAX_EVIDENCE = 1e15

# C0 and C1 controls, line and paragraph separators, bidirectional overrides and isolates, zero-width marks, surrogates
_NOT_PRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_MARKS_ABOVE_AND_BELOW = ("Mn", "Me")
MAX_MARKS = 4  # Vietnamese has two, pointed Hebrew and vocalised Arabic three
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")


def text(field: str, value: object, limit: str, *, empty: bool = True) -> str:
    """`value` as text within its limit, without control or bidirectional characters. Raises ValidationError."""
    if value == "" and empty:
        return ""
    longest = MAX_TEXT_CHARACTERS[limit]
    if not isinstance(value, str):
        raise ValidationError(field, value, "must be text")
    if len(value) > longest:
        raise ValidationError(field, value, f"must be at most {longest} characters, not {len(value)}")
    if not value and not empty:
        raise ValidationError(field, value, "must not be empty")
    if _NOT_PRINTABLE.search(value):
        raise ValidationError(field, value, "must not contain control or bidirectional characters")
    if value != value.strip():
        raise ValidationError(field, value, "must not begin or end with a space")
    return value


def displayable(field: str, value: object, limit: str, *, empty: bool = True) -> str:
    """As `text`, for new input, which must also be safe to show to people. Stored records are read with `text`."""
    checked = text(field, value, limit, empty=empty)
    refuse_hidden(field, checked)
    return checked


def refuse_hidden(field: str, value: str) -> None:
    """Raises ValidationError for text that looks different from its content.

    Allowed are the Unicode categories of letters, marks, numbers, punctuation and symbols, and the plain space. Not
    allowed are control, format, private and unassigned characters, other spaces, the few letters and marks that are
    invisible, and more marks on one letter than any script has.
    """
    if not value.isprintable():  # by category: no other (C) and no separator (Z) but the space
        hidden = next(character for character in value if not character.isprintable())
        raise ValidationError(field, value, f"must not contain the invisible character U+{ord(hidden):04X}")
    if value.isascii():
        return
    blank = INVISIBLE.search(value)
    if blank is not None:
        raise ValidationError(field, value, f"must not contain the invisible character U+{ord(blank[0]):04X}")
    marks = 0
    for character in value:
        marks = marks + 1 if unicodedata.category(character) in _MARKS_ABOVE_AND_BELOW else 0
        if marks > MAX_MARKS:
            raise ValidationError(field, value, f"must have at most {MAX_MARKS} combining marks on one letter")


def are_plain(texts: Sequence[str]) -> bool:
    """True when `text` would accept each of these, apart from its length; checks them all together.

    May return False for acceptable texts, when one contains `!` beside a space.
    """
    joined = "!".join(texts)
    if joined.isascii():
        return joined.isprintable() and " !" not in joined and "! " not in joined and joined == joined.strip()
    return not _NOT_PRINTABLE.search(joined) and all(value == value.strip() for value in texts)


def identifier(field: str, value: object) -> str:
    """`value` as a node id: letters, digits and . _ : - , so that it can be part of a URL or a file name."""
    checked = text(field, value, "id", empty=False)
    if not _ID.match(checked):
        raise ValidationError(
            field, value, "must begin with a letter or digit and contain only letters, digits and . _ : -"
        )
    return checked


def lookup_key(value: object) -> str:
    """The id to look a node up by; when `value` is not text, an id that no node has."""
    return value if isinstance(value, str) else ""


def integer(field: str, value: object, least: int, most: int) -> int:
    """`value` as an int within bounds; not a bool, nor a float with a whole value."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError(field, value, f"must be a whole number from {least} to {most}")
    if not least <= value <= most:
        raise ValidationError(field, value, f"must be from {least} to {most}")
    return int(value)


def number(field: str, value: object, least: float, most: float) -> float:
    """`value` as a finite float within bounds; not a bool."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and least <= value <= most and math.isfinite(value):  # type: ignore[operator, arg-type]  # NaN is not
        return float(value) + 0.0  # type: ignore[arg-type]  # -0.0 becomes 0.0
    raise ValidationError(field, value, f"must be a number from {least:g} to {most:g}")


def optional_number(field: str, value: object, least: float, most: float) -> Optional[float]:
    """As `number`, or None for None, which means unknown."""
    return None if value is None else number(field, value, least, most)


def optional_integer(field: str, value: object, least: int, most: int) -> Optional[int]:
    """As `integer`, or None for None, which means unknown."""
    return None if value is None else integer(field, value, least, most)


def optional_time(field: str, value: object) -> Optional[datetime]:
    """`value` as a datetime with a time zone, or None."""
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise ValidationError(field, value, "must be a datetime with a time zone")
    return value


def boolean(field: str, value: object) -> bool:
    """`value` as a bool; 0 and 1 are not accepted."""
    if not isinstance(value, bool):
        raise ValidationError(field, value, "must be true or false")
    return value


def choice(field: str, value: object, words: type[_E]) -> _E:
    """`value` as a member of the closed set `words`, from the member itself or its text."""
    if type(value) is words:
        return value
    try:
        return words(value)
    except ValueError:
        allowed = ", ".join(str(word.value) for word in words)
        raise ValidationError(field, value, f"must be one of {allowed}") from None


def instance(field: str, value: object, kind: type[object]) -> None:
    """Raises ValidationError for anything that is not a `kind`."""
    if not isinstance(value, kind):
        raise ValidationError(field, value, f"must be a {kind.__name__}")
