"""How large an answer may be, by what was requested: the one table. Whoever answers is believed no further than this.

Answers are read as a stream and given up at the bound; they travel without compression, so that what is counted is
what is kept. A page of nodes has so many bytes for each node that it was to hold.
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
    "order": 64 * _KIB,  # what an operator, or a node that leaves, orders: the answer says at most how it is now
    "node": LARGEST_NODE_BYTES,
    "reputation": 256 * _KIB,
    "explanation": 256 * _KIB,
    "count": 4 * _KIB,
}

LARGEST_PROBLEM_BYTES = 64 * _KIB  # of an answer that is no success; one that is larger is taken without its body
