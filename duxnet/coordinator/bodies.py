"""From the bytes of a body to what they say. Every failure is one of our errors."""

from __future__ import annotations

from typing import Callable, TypeVar

import msgspec

from duxnet.coordinator.problems import Refused

__all__ = ["body_as", "decoded", "refuse_content_type"]

T = TypeVar("T")


def body_as(body: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises Refused."""
    return decoded(body, lambda given: msgspec.json.decode(given, type=kind))


def decoded(body: bytes, decode: Callable[[bytes], T]) -> T:
    """What a decoder of msgspec makes of the body. Raises Refused."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Refused("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


def refuse_content_type(content_type: bytes) -> None:
    """Raise Refused unless it is JSON in UTF-8."""
    if content_type == b"application/json":  # as nearly all write it
        return
    media_type, _, parameters = content_type.decode("latin-1").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused("wrong-content-type", "send Content-Type: application/json")
