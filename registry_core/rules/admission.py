"""May a node take part? A table of state × command; what is not in the table is an error.

Here: the table. Not here: who may give which command (the host), what a state means for work (`Node.is_ready`).
"""

from __future__ import annotations

from enum import Enum

from registry_core.errors import ValidationError
from registry_core.models.status import Admission

__all__ = ["AdmissionCommand", "admission_after"]


class AdmissionCommand(Enum):
    """What policy and operators can say about a node."""

    APPROVE = "approve"
    PUT_ON_PROBATION = "put on probation"
    SUSPEND = "suspend"
    BAN = "ban"


_TABLE = {
    (Admission.PENDING, AdmissionCommand.APPROVE): Admission.APPROVED,
    (Admission.PENDING, AdmissionCommand.PUT_ON_PROBATION): Admission.PROBATION,
    (Admission.PENDING, AdmissionCommand.BAN): Admission.BANNED,
    (Admission.PROBATION, AdmissionCommand.APPROVE): Admission.APPROVED,
    (Admission.PROBATION, AdmissionCommand.SUSPEND): Admission.SUSPENDED,
    (Admission.PROBATION, AdmissionCommand.BAN): Admission.BANNED,
    (Admission.APPROVED, AdmissionCommand.APPROVE): Admission.APPROVED,
    (Admission.APPROVED, AdmissionCommand.PUT_ON_PROBATION): Admission.PROBATION,
    (Admission.APPROVED, AdmissionCommand.SUSPEND): Admission.SUSPENDED,
    (Admission.APPROVED, AdmissionCommand.BAN): Admission.BANNED,
    (Admission.SUSPENDED, AdmissionCommand.APPROVE): Admission.APPROVED,
    (Admission.SUSPENDED, AdmissionCommand.PUT_ON_PROBATION): Admission.PROBATION,
    (Admission.SUSPENDED, AdmissionCommand.SUSPEND): Admission.SUSPENDED,
    (Admission.SUSPENDED, AdmissionCommand.BAN): Admission.BANNED,
    (Admission.BANNED, AdmissionCommand.APPROVE): Admission.APPROVED,  # an operator's mistake can be undone
    (Admission.BANNED, AdmissionCommand.BAN): Admission.BANNED,
}


def admission_after(state: Admission, command: AdmissionCommand) -> Admission:
    """The state that `command` leads to. Raises ValidationError for a command that makes no sense in `state`."""
    after = _TABLE.get((state, command))
    if after is None:
        raise ValidationError("admission", state.value, f"a node in this state cannot be told to {command.value}")
    return after
