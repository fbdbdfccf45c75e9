"""How large, long and wide a field may be: the one table, and the checks that read it.

A value beyond a limit is refused with an error that names it. The limits keep a record under 16 KiB, keep
nonsense (2⁶⁴−1 GPUs) out of the registry and keep what ends in terminals and logs printable.
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

MAX_CPUS = 65_536  # Linux's own NR_CPUS ceiling is 8,192; a margin for what is to come
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
    """`value` as text within its limit, without control or bidirectional characters; else ValidationError."""
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
        raise ValidationError(field, value, "must not hold control or bidirectional characters")
    if value != value.strip():
        raise ValidationError(field, value, "must not begin or end with a space")
    return value


def displayable(field: str, value: object, limit: str, *, empty: bool = True) -> str:
    """As `text`, for what is taken in from outside now: it must also be fit to be shown to people.

    Records that were taken in earlier are read by `text`.
    """
    checked = text(field, value, limit, empty=empty)
    refuse_hidden(field, checked)
    return checked


def refuse_hidden(field: str, value: str) -> None:
    """Refuse text of which a reader would see something else than is there.

    Allowed are the Unicode categories of letters, marks, numbers, punctuation and symbols, and the plain space.
    Controls, formats, other spaces, private and unassigned characters are not, nor the few letters and marks that are
    drawn as nothing, nor more marks on one letter than any script has.
    """
    if not value.isprintable():  # by category: no other (C) and no separator (Z) but the space
        hidden = next(character for character in value if not character.isprintable())
        raise ValidationError(field, value, f"must not hold U+{ord(hidden):04X}, which cannot be seen")
    if value.isascii():
        return
    blank = INVISIBLE.search(value)
    if blank is not None:
        raise ValidationError(field, value, f"must not hold U+{ord(blank[0]):04X}, which cannot be seen")
    marks = 0
    for character in value:
        marks = marks + 1 if unicodedata.category(character) in _MARKS_ABOVE_AND_BELOW else 0
        if marks > MAX_MARKS:
            raise ValidationError(field, value, f"must have at most {MAX_MARKS} combining marks on one letter")


def are_plain(texts: Sequence[str]) -> bool:
    """True when `text` would accept each of these but for its length: one look at all of them together.

    False may be said of texts that it accepts, where one begins or ends with `!` beside a space.
    """
    joined = "!".join(texts)
    if joined.isascii():
        return joined.isprintable() and " !" not in joined and "! " not in joined and joined == joined.strip()
    return not _NOT_PRINTABLE.search(joined) and all(value == value.strip() for value in texts)


def identifier(field: str, value: object) -> str:
    """`value` as a node id: letters, digits and . _ : - , so that it can stand in an address or a file name."""
    checked = text(field, value, "id", empty=False)
    if not _ID.match(checked):
        raise ValidationError(
            field, value, "must begin with a letter or digit and hold only letters, digits and . _ : -"
        )
    return checked


def lookup_key(value: object) -> str:
    """What to look a node up by: the id, or a text that no node has when `value` is no text."""
    return value if isinstance(value, str) else ""


def integer(field: str, value: object, least: int, most: int) -> int:
    """`value` as an int within bounds; neither a bool nor a float that happens to be whole."""
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
    """As `number`, and None stays None: not known."""
    return None if value is None else number(field, value, least, most)


def optional_integer(field: str, value: object, least: int, most: int) -> Optional[int]:
    """As `integer`, and None stays None: not known."""
    return None if value is None else integer(field, value, least, most)


def optional_time(field: str, value: object) -> Optional[datetime]:
    """`value` as a moment: a datetime that carries its zone, or None."""
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise ValidationError(field, value, "must be a datetime with its zone")
    return value


def boolean(field: str, value: object) -> bool:
    """`value` as a bool; 0 and 1 are not."""
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
    """Refuse anything that is not a `kind`."""
    if not isinstance(value, kind):
        raise ValidationError(field, value, f"must be a {kind.__name__}")
