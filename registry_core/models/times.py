"""Times as the project writes them: UTC, RFC 3339 with `Z`, milliseconds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Optional

from registry_core.errors import ValidationError

_RULE = "must be a time in RFC 3339 with an offset, such as 2026-01-31T12:00:00.000Z"


def time_to_text(value: Optional[datetime]) -> Optional[str]:
    """`2026-01-31T12:00:00.000Z`, or None for None. The time must have a time zone."""
    if value is None:
        return None
    in_utc = value if value.tzinfo is timezone.utc else value.astimezone(timezone.utc)
    return in_utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def time_from_text(field: str, value: object) -> Optional[datetime]:
    """The UTC time of a text, or None for None. Raises ValidationError for anything else."""
    if value is None:
        return None
    if not isinstance(value, str) or not 20 <= len(value) <= 40:
        raise ValidationError(field, value, _RULE)
    normal = value[:-1] + "+00:00" if value[-1] in "Zz" else value  # Python 3.9 and 3.10 do not read the Z
    try:
        moment = datetime.fromisoformat(normal)
        if moment.tzinfo is None:
            raise ValidationError(field, value, _RULE)
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValidationError(field, value, _RULE) from None
