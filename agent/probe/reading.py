"""The results of a probe, readings and failures, and their JSON form."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

__all__ = ["Failure", "Reading"]


class Reading(NamedTuple):
    """One fact about the machine.

    `value` is a JSON value, None if unknown. `limited_by` is what makes the value smaller than the hardware, or None.
    `host` is the figure of the whole machine and `container` the one that this process may use; each is given only if
    it differs from `value`. `set_by` is "override" or "reserve" if the operator changed what was measured. `note` is a
    sentence for `--explain`.
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
        """The JSON map: name, value, unit, source and limited_by always, the other fields if they are set."""
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
    """Something that could not be determined, or an implausible value (then `raw` holds it)."""

    probe: str
    message: str
    reading: Optional[str] = None
    raw: Any = None

    def to_plain(self) -> dict[str, Any]:
        """The JSON map: probe and message always, reading and raw if they are set."""
        plain: dict[str, Any] = {"probe": self.probe, "message": self.message}
        if self.reading is not None:
            plain["reading"] = self.reading
        if self.raw is not None:
            plain["raw"] = self.raw
        return plain
