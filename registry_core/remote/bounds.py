"""The maximum sizes of answers, by the kind of request, in one table.

Answers are read as a stream, and reading stops at the maximum. They are not compressed, so that the counted size is the
size in memory. The maximum for a page of nodes is LARGEST_NODE_BYTES times the number of nodes requested, plus one.
"""

from __future__ import annotations

from registry_core.wire.nodes import LARGEST_NODE_BYTES

__all__ = ["LARGEST_ANSWER_BYTES", "LARGEST_NODE_BYTES", "LARGEST_PROBLEM_BYTES", "NODES_IN_A_PAGE"]

_KIB = 1024

NODES_IN_A_PAGE = 500  # 16 MiB at most

LARGEST_ANSWER_BYTES = {
    "coordinator": 16 * _KIB,
    "registration": 64 * _KIB,
    "heartbeat": 64 * _KIB,
    "order": 64 * _KIB,  # by an operator or a leaving node: the answer has at most the new state
    "node": LARGEST_NODE_BYTES,
    "reputation": 256 * _KIB,
    "explanation": 256 * _KIB,
    "count": 4 * _KIB,
}

LARGEST_PROBLEM_BYTES = 64 * _KIB  # for an unsuccessful answer; the body of a larger one is ignored
