"""Which admission state an operator may set after which; any other transition is an error.

The host decides who may change the state, and `Node.is_ready` what a state means for work.
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
    Admission.BANNED: (Admission.APPROVED, Admission.BANNED),  # so that an operator can undo a ban
}


def check_admission(before: Admission, after: Admission) -> None:
    """Raise ValidationError if an operator cannot change a node's admission from `before` to `after`."""
    allowed = _MAY_BECOME[before]
    if after not in allowed:
        rule = f"must be one of {', '.join(allowed)} for a node that is {before}"
        raise ValidationError("admission", after.value, rule)
