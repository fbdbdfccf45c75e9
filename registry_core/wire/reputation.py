"""A reputation as plain JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission

__all__ = ["reputation_from_plain", "reputation_to_plain"]

_MOST_EVIDENCE = 1e15


def reputation_to_plain(reputation: Reputation) -> dict[str, Any]:
    """Every field; evidence as {dimension: {successes, failures}}."""
    return {
        "score": reputation.score,
        "posterior_mean": reputation.posterior_mean,
        "evidence": {
            name: {"successes": evidence.successes, "failures": evidence.failures}
            for name, evidence in reputation.evidence.items()
        },
        "standing": str(reputation.standing),
        "reasons": list(reputation.reasons),
    }


def reputation_from_plain(plain: Mapping[str, Any]) -> Reputation:
    """The reputation that `reputation_to_plain` wrote. Raises ValidationError."""
    evidence = plain.get("evidence", {})
    reasons = plain.get("reasons", [])
    if not isinstance(evidence, Mapping) or not isinstance(reasons, list):
        raise ValidationError("reputation", plain, "must hold evidence as a map and reasons as a list")
    return Reputation(
        score=limits.number("score", plain.get("score"), 0, 5),
        posterior_mean=limits.number("posterior_mean", plain.get("posterior_mean"), 0, 1),
        evidence=FrozenMap({str(name): _evidence(name, item) for name, item in evidence.items()}),
        standing=limits.choice("standing", plain.get("standing", Admission.PROBATION), Admission),
        reasons=tuple(str(reason) for reason in reasons),
    )


def _evidence(name: str, plain: object) -> Evidence:
    if not isinstance(plain, Mapping):
        raise ValidationError(f"evidence.{name}", plain, "must be a map of fields")
    return Evidence(
        limits.number(f"evidence.{name}.successes", plain.get("successes", 0.0), 0, _MOST_EVIDENCE),
        limits.number(f"evidence.{name}.failures", plain.get("failures", 0.0), 0, _MOST_EVIDENCE),
    )
