"""Bearer tokens, the roles they stand for, and the permissions of each role.

Not here: registration by signature (`admission.decision`), a client's address (`forwarding`), sessions of nodes
(`sessions`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Callable, Optional

from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.errors import Refused

__all__ = ["ANONYMOUS", "Access", "Caller", "Permission"]


class Permission(Enum):
    """What a caller may be allowed to do."""

    SEE_ADDRESSES = "see addresses"
    RATE = "rate nodes"
    OPERATE = "change any node"


_ALLOWED = {
    "anonymous": frozenset[Permission](),
    "reader": frozenset({Permission.SEE_ADDRESSES}),
    "rater": frozenset({Permission.SEE_ADDRESSES, Permission.RATE}),
    "operator": frozenset(Permission),
}


_HEX_WALLET = re.compile("0[xX][0-9a-fA-F]+")


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `name` is its name in the audit log.

    `wallet` is the wallet that a rater's token is bound to. `rater` is the only value that the caller may give as
    `rater`; an operator may give any.
    """

    role: str
    name: str
    wallet: str = ""
    rater: str = ""

    def may(self, permission: Permission) -> bool:
        """Does the role have this permission?"""
        return permission in _ALLOWED[self.role]

    def need(self, permission: Permission) -> None:
        """Raise Refused unless the role has this permission."""
        if self.may(permission):
            return
        if self.role == "anonymous":
            raise Refused("token-required", f"a token is needed to {permission.value}")
        raise Refused("not-allowed", f"a {self.role} may not {permission.value}")

    def owns(self, wallet: str) -> bool:
        """Is it the wallet that the token is bound to? Hex letters compare without case (EIP-55)."""
        return bool(self.wallet) and _folded(self.wallet) == _folded(wallet)

    def need_to_speak_as(self, rater: Optional[str]) -> None:
        """Raise Refused unless the caller may report for this rater. None means the caller itself."""
        if rater is None or rater == self.rater or self.may(Permission.OPERATE):
            return
        raise Refused("not-allowed", f"rater: must be {self.rater} or absent with this token")


def _folded(wallet: str) -> str:
    return wallet.lower() if _HEX_WALLET.fullmatch(wallet) else wallet


ANONYMOUS = Caller("anonymous", "anonymous")


class Access:
    """Turns the Authorization header into a caller."""

    def __init__(self, token_store: TokenStore, now: Callable[[], float]) -> None:
        self._token_store = token_store
        self._now = now

    def caller(self, authorization: str) -> Caller:
        """Returns the caller, ANONYMOUS without a header. Raises Refused for an unknown or invalid token."""
        if not authorization:
            return ANONYMOUS
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.startswith("dux_") or len(secret) > 128:
            raise Refused("token-required", "header authorization: must be Bearer with a token of this coordinator")
        token = self._token_store.find(secret)
        if token is None or not token.is_valid(self._now()) or token.role not in _ALLOWED:
            raise Refused("token-required", "the token is unknown, revoked, expired or only for joining")
        return Caller(token.role, f"token {token.id} ({token.role})", token.wallet, f"token:{token.id}")
