"""May a node take part? Which state may follow which; what is not in the table is an error.

Here: the table. Not here: who may change the state (the host), what a state means for work (`Node.is_ready`).
"""

from __future__ import annotations

from registry_core.errors import ValidationError
from registry_core.models.status import Admission

__all__ = ["check_admission"]

_MAY_BECOME = {
    Admission.PENDING: (Admission.APPROVED, Admission.PROBATION, Admission.BANNED),
    Admission.PROBATION: (Admission.APPROVED, Admission.SUSPENDED, Admission.BANNED),
    Admission.APPROVED: (Admission.APPROVED, Admission.PROBATION, Admission.SUSPENDED, Admission.BANNED),
    Admission.SUSPENDED: (Admission.APPROVED, Admission.PROBATION, Admission.SUSPENDED, Admission.BANNED),
    Admission.BANNED: (Admission.APPROVED, Admission.BANNED),  # an operator's mistake can be undone
}


def check_admission(before: Admission, after: Admission) -> None:
    """Raises ValidationError where an operator cannot bring a node from `before` to `after`."""
    allowed = _MAY_BECOME[before]
    if after not in allowed:
        rule = f"must be one of {', '.join(allowed)} for a node that is {before}"
        raise ValidationError("admission", after.value, rule)
