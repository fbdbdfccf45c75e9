"""Reads records of layouts 1 and 2 (JSON: schema 1.0), which kept a node's fields and the registry's in one map.

Any node could send a field with a name of the registry's, and it was read back as the registry's own. This module
decides for each field who wrote it, and drops those that the registry cannot have written. It can tell because a
node's unknown fields were written before the fields of the record; because the proof of a wallet can be verified; and
because a history must fit the evidence beside it, since both were written with each outcome.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

import msgspec

from registry_core.errors import NotSupportedError, ValidationError, shown
from registry_core.identity.wallets import EthereumWallets, proof_message
from registry_core.models import limits
from registry_core.models.frozen import frozen_json_map
from registry_core.models.own_names import OWN_NAMES
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission
from registry_core.models.times import time_from_text
from registry_core.rules.liveness import MAX_INTERVAL_SECONDS
from registry_core.rules.reputation.admission_policy import STANDING_TABLE
from registry_core.rules.reputation.evidence import stored_history
from registry_core.rules.reputation.policy import AVAILABILITY, CORRECTNESS, DEFAULT_POLICY
from registry_core.storage.packed_records import evidence_by_name
from registry_core.storage.record_codec import TOP_LEVEL, checked_proof, checked_unknown, record_from_plain

__all__ = ["OlderRecord", "log_dropped", "of_older_layout", "unpack_older"]

_log = logging.getLogger("registry_core.storage")

_FIRST, _SECOND = "ip_address", "wallet_address"  # the first fields of a record, after those that only the node knew
_TOLERANCE = 1.05  # for units of evidence: sums with forgetting have rounding errors
_FIRST_SECOND_OF_2020 = 1_577_836_800.0  # no registry existed before
_EARNED = next(reason for _from, _found, to, reason in STANDING_TABLE if to is Admission.APPROVED)


class OlderRecord(NamedTuple):
    """`plain` as `record_from_plain` reads it, and the fields dropped from it, each with the reason."""

    plain: dict[str, Any]
    dropped: tuple[str, ...]


def of_older_layout(given: Mapping[str, Any]) -> OlderRecord:
    """A record of layout 1 or 2 in today's layout. `given` has its fields in the order of the file."""
    dropped: list[str] = []
    plain = dict(given)
    for name in given:
        if name not in TOP_LEVEL:
            _judge_field_of_the_node(name, plain, dropped)
    sent = _names_sent_by_the_node(given)
    for name, judge in _JUDGES.items():
        if name in plain:
            try:
                judge(plain[name], plain, sent)
            except ValidationError as error:
                del plain[name]
                dropped.append(f"{name} ({error.rule})")
    if "history" in plain:
        _judge_history(plain, sent, dropped)
    return OlderRecord(plain, tuple(dropped))


def unpack_older(packed: bytes, *, newer: bool = False) -> tuple[NodeRecord, tuple[str, ...]]:
    """A record that a store kept as bytes in layout 1 or 2, and the fields dropped from it. Raises ValueError."""
    try:
        found = of_older_layout(evidence_by_name(msgspec.json.decode(packed, type=dict[str, Any])))
        return record_from_plain(found.plain, newer=newer)[0], found.dropped
    except (msgspec.MsgspecError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def log_dropped(location: str, node_id: str, dropped: Sequence[str]) -> None:
    """Log one line for a node with dropped fields."""
    _log.warning(
        "%s: dropped fields of node %s that the registry cannot have written: %s",
        location,
        node_id,
        "; ".join(dropped),
    )


def _names_sent_by_the_node(given: Mapping[str, Any]) -> frozenset[str]:
    """The names before the record's own fields, if the fields are in the order in which they were written."""
    names = list(given)
    place = names.index(_FIRST) if _FIRST in given else 0
    in_order = place + 1 < len(names) and names[place + 1] == _SECOND
    return frozenset(names[:place]) if in_order else frozenset()


def _judge_field_of_the_node(name: str, plain: dict[str, Any], dropped: list[str]) -> None:
    """Drop a field that `extra` does not accept; the others are moved there when the node is read."""
    try:
        limits.text("extra", name, "extra name", empty=False)
        if name in OWN_NAMES:
            raise ValidationError("extra", name, "the name is reserved for the registry")
    except ValidationError as error:
        del plain[name]
        dropped.append(f"{shown(name)} ({error.rule})")


def _interval(value: object, _plain: Mapping[str, Any], _sent: frozenset[str]) -> None:
    limits.optional_number("interval_seconds", value, 0.001, MAX_INTERVAL_SECONDS)


def _host_state(value: object, _plain: Mapping[str, Any], _sent: frozenset[str]) -> None:
    frozen_json_map("host_state", value)


def _unknown(value: object, _plain: Mapping[str, Any], sent: frozenset[str]) -> None:
    checked_unknown(value)
    if "unknown" in sent:
        raise ValidationError("unknown", value, "the node sent it")


def _proof(value: object, plain: Mapping[str, Any], _sent: frozenset[str]) -> None:
    """Raises ValidationError unless the proof is valid. A user can submit again one that cannot be verified here."""
    proof = checked_proof(value)
    wallet, node_id = plain.get("wallet_address", ""), plain.get("id", "")
    if not proof or not wallet or proof["wallet_address"] != wallet:
        raise ValidationError("wallet_proof", value, "it is not for the node's wallet")
    try:
        if EthereumWallets().verify(str(wallet), proof_message(node_id), proof["signature"]):
            return
    except ValidationError as error:
        raise ValidationError("wallet_proof", value, f"it cannot be verified: {error.field} {error.rule}") from None
    except NotSupportedError as error:
        raise ValidationError("wallet_proof", value, f"it cannot be verified: {error}") from None
    raise ValidationError("wallet_proof", value, "its signature is not by this wallet for this node")


_JUDGES: Mapping[str, Callable[[object, Mapping[str, Any], frozenset[str]], None]] = {
    "interval_seconds": _interval,
    "host_state": _host_state,
    "unknown": _unknown,
    "wallet_proof": _proof,
}
"""Each raises ValidationError for a value that the registry cannot have written."""


def _judge_history(plain: dict[str, Any], sent: frozenset[str], dropped: list[str]) -> None:
    admission = plain.get("admission", Admission.PROBATION.value)
    decided = admission not in (Admission.PROBATION.value, Admission.PENDING.value)
    try:
        history = dict(stored_history(plain["history"]))
    except ValueError as error:
        del plain["history"]
        dropped.append(f"history ({error})")
        return
    why_not = _why_not_ours(history, plain, sent)
    if why_not:
        keeps = {"standing_by_operator": True} if decided and history.get("standing_by_operator") else {}
        dropped.append(f"history ({why_not})")
        if admission == Admission.APPROVED.value and plain.get("admission_reason") == _EARNED:
            plain.update(admission=Admission.PROBATION.value, admission_reason="")
            dropped.append("approval (it was based on that history)")
            keeps = {}
        plain["history"] = history = keeps
    if history.get("standing_by_operator") and admission == Admission.PROBATION.value:
        plain["history"] = {name: value for name, value in history.items() if name != "standing_by_operator"}
        dropped.append("history.standing_by_operator (an operator's decision never leaves a node on probation)")
    if not plain["history"]:
        del plain["history"]


def _why_not_ours(history: Mapping[str, Any], plain: Mapping[str, Any], sent: frozenset[str]) -> Optional[str]:
    """Why the registry cannot have written this history; None when it can."""
    evidence = plain.get("evidence", {})
    if not isinstance(evidence, Mapping):
        return None  # such a record is refused as a whole
    if "history" in sent and not evidence:
        return "the node sent it"
    policy = DEFAULT_POLICY
    verified = history.get("verified_tasks", 0.0)
    if verified > _most_units(_weight(evidence, CORRECTNESS), policy.correctness_kept):
        return "it counts more verified tasks than the evidence supports"
    observed = history.get("observed_hours", 0.0) / policy.availability_unit_hours
    if observed > _most_units(_weight(evidence, AVAILABILITY), policy.availability_kept):
        return "it counts more hours than the evidence supports"
    first_seen, registered = (
        history.get("first_seen_seconds"),
        time_from_text("registered_at", plain.get("registered_at")),
    )
    is_dated = registered is not None and registered.timestamp() >= _FIRST_SECOND_OF_2020
    if first_seen is not None and first_seen < _FIRST_SECOND_OF_2020 and is_dated:
        return "it begins before any registry existed"
    return None


def _weight(evidence: Mapping[str, Any], dimension: str) -> float:
    """The weight of one dimension's evidence, which JSON files store by name and SQLite as a pair."""
    found = evidence.get(dimension, ())
    parts = found.values() if isinstance(found, Mapping) else found
    return math.fsum(part for part in parts if isinstance(part, (int, float)))


def _most_units(weight: float, kept: float) -> float:
    """The largest number of units of evidence with this weight: n units weigh (1 - keptⁿ) / (1 - kept)."""
    left = 1.0 - weight * (1.0 - kept)
    if left < 0.001:  # near its maximum the weight hardly depends on the number
        return math.inf
    return _TOLERANCE * math.log(left) / math.log(kept) + 1.0
