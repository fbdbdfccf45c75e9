"""The problem answers that every route documents, so that the OpenAPI document holds no surprise."""

from __future__ import annotations

from litestar.openapi.datastructures import ResponseSpec

from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem

__all__ = ["ERRORS"]

ERRORS: dict[int, ResponseSpec] = {
    status: ResponseSpec(
        data_container=Problem,
        generate_examples=False,
        media_type=PROBLEM_MEDIA_TYPE,
        description="; ".join(kind.title for kind in KINDS.values() if kind.status == status),
    )
    for status in sorted({kind.status for kind in KINDS.values()})
}
