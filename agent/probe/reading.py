"""What a probe hands back: readings, and errors that stand beside them.

Here: the two records and their JSON shape. Not here: what is done with them (`report`, `plausibility`, `overrides`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

__all__ = ["Failure", "Reading"]


class Reading(NamedTuple):
    """One thing that was found out.

    `value` is a JSON value, None where the machine does not say. `limited_by` tells what made the value smaller
    than the hardware, or is None. `host` is the figure of the whole machine and `container` the one that this
    process may use, each given only where it differs from `value`. `set_by` is "override" or "reserve" when the
    operator's word changed what was measured. `note` is a sentence for `--explain`.
    """

    name: str
    value: Any
    unit: str = ""
    source: str = ""
    limited_by: Optional[str] = None
    host: Any = None
    container: Any = None
    set_by: Optional[str] = None
    note: str = ""

    def to_plain(self) -> dict[str, Any]:
        """The JSON map: name, value, unit, source and limited_by always, the rest where there is something to say."""
        plain: dict[str, Any] = {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "limited_by": self.limited_by,
        }
        for name in ("host", "container"):
            figure = getattr(self, name)
            if figure is not None and figure != self.value:
                plain[name] = figure
        if self.set_by is not None:
            plain["set_by"] = self.set_by
        if self.note:
            plain["note"] = self.note
        return plain


class Failure(NamedTuple):
    """Something that could not be found out, or that was found and is not believable (`raw` holds it then)."""

    probe: str
    message: str
    reading: Optional[str] = None
    raw: Any = None

    def to_plain(self) -> dict[str, Any]:
        """The JSON map: probe and message always, reading and raw where there is one."""
        plain: dict[str, Any] = {"probe": self.probe, "message": self.message}
        if self.reading is not None:
            plain["reading"] = self.reading
        if self.raw is not None:
            plain["raw"] = self.raw
        return plain
