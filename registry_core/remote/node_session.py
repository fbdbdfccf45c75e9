"""The node's side of a registration: its key, the pinned coordinator, the rising generation and the session.

The generation is written to disk before it is used, so that a node never uses the same number for two different
registrations, even after a crash.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Callable, Literal, Optional
from urllib.parse import quote

import msgspec

from registry_core.errors import (
    DamagedStoreError,
    RefusedError,
    StoreError,
    UnreachableError,
    ValidationError,
    reason_of,
)
from registry_core.files.atomic import replace_file
from registry_core.files.locks import locked_folder
from registry_core.files.opening import read_file
from registry_core.identity.answer_signature import SignedAnswer, verify_answer
from registry_core.identity.coordinator_id import coordinator_id_of_key
from registry_core.identity.identity_files import KEY_FILE, ensure_identity
from registry_core.identity.node_key import NodeKey, load_node_key
from registry_core.identity.signatures import SignatureParameters, SignatureRefused, SignedRequest, sign_request
from registry_core.models.encoding import node_to_plain
from registry_core.models.ids import key_from_text
from registry_core.models.node import Node
from registry_core.remote.answers import (
    Answer,
    decoded,
    kind_name,
    problem_in,
    raise_for,
    raise_for_unsigned,
    safe_text,
)
from registry_core.remote.bounds import LARGEST_ANSWER_BYTES
from registry_core.remote.options import RemoteOptions
from registry_core.remote.sender import Sender
from registry_core.wire.shapes import (
    LAST_GENERATION,
    PROTOCOL,
    CoordinatorInfo,
    Registration,
    RegistrationReply,
    SuccessionLink,
)

__all__ = ["NodeSession", "Registrar"]

REMOTE_FILE = "remote.json"
_SIGNATURE_SECONDS = 60
_NONCE = re.compile(r'nonce="([\x21\x23-\x5b\x5d-\x7e]{1,256})"')
LARGEST_FILE_BYTES = 16 * 1024


@dataclass(frozen=True)
class NodeSession:
    """One accepted registration."""

    token: str
    generation: int
    interval_seconds: float


class Registrar:
    """Registers the node whose key is in `state_dir`. Not thread-safe. The constructor raises StoreError."""

    def __init__(
        self, state_dir: Path, options: RemoteOptions, sender: Sender, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.node_id = ensure_identity(state_dir).id
        self._state_dir = state_dir
        self._key = self._read_key()
        self._path = state_dir / REMOTE_FILE
        self._options = options
        self._sender = sender
        self._wall = wall
        kept = _kept(self._path)
        self._generation = 0 if kept is None else kept.generation
        self._pinned = options.coordinator_id or ("" if kept is None else kept.coordinator_id)
        self._coordinator: Optional[CoordinatorInfo] = None

    def register(self, node: Node, interval_seconds: float) -> NodeSession:
        """Register `node`, which reports every `interval_seconds`, and return the new session.

        If `node` has another public key, the key was replaced meanwhile, and is read again. Raises what `raise_for`
        raises, RefusedError and StoreError.
        """
        with self._sender.call():
            return self._register(node, interval_seconds)

    def _register(self, node: Node, interval_seconds: float) -> NodeSession:
        if node.public_key not in ("", self._key.public_key):
            self._key = self._read_key()
        coordinator = self._known_coordinator()
        self._next_generation(self._generation + 1)
        answer, unsigned = self._exchange(node, interval_seconds, coordinator)
        problem = problem_in(answer)
        known = problem.current_generation if answer.status == 409 and problem is not None and not unsigned else None
        if known is not None and known >= self._generation:  # our file was restored from a backup
            self._next_generation(known + 1)
            answer, unsigned = self._exchange(node, interval_seconds, coordinator)
        if answer.status not in (200, 201):
            (raise_for_unsigned if unsigned else raise_for)(answer, node.id)
        if unsigned:
            self._coordinator = None
            self._known_coordinator()  # raises if there is another coordinator now, or an older one
            raise RefusedError(
                "bad-coordinator",
                f"the answer of {answer.address} is not signed by the coordinator {coordinator.id}: {unsigned}",
                "check which server is at this address",
            )
        reply = decoded(answer, RegistrationReply)
        if not reply.session:
            raise UnreachableError(answer.address, "does not answer like a coordinator: the reply has no session")
        return NodeSession(reply.session, reply.generation, reply.interval_seconds)

    def _exchange(self, node: Node, interval_seconds: float, coordinator: CoordinatorInfo) -> tuple[Answer, str]:
        """Send the signed registration; if only our clock is wrong, sign the coordinator's nonce and send it again.

        Returns the answer, and why it is not proven to be the coordinator's, or "".
        """
        body = self._body(node, interval_seconds)
        path = f"/v1/nodes/{quote(node.id, safe='')}"
        proof = _Proof(self, path, coordinator.id, body)
        answer = self._send(path, proof)
        nonce = _NONCE.search(answer.challenge)
        if answer.status == 401 and kind_name(answer) == "signature-time" and nonce is not None:
            proof.nonce = nonce[1]
            answer = self._send(path, proof)
        return answer, proof.reason_against(answer, coordinator)

    def _send(self, path: str, proof: _Proof) -> Answer:
        return self._sender.send(
            "PUT",
            path,
            largest_bytes=LARGEST_ANSWER_BYTES["registration"],
            body=proof.body,
            headers=proof.headers,
        )

    def _body(self, node: Node, interval_seconds: float) -> bytes:
        options = self._options
        plain = node_to_plain(node)
        plain["public_key"] = self._key.public_key
        succession = tuple(SuccessionLink(**asdict(link)) for link in self._key.succession)
        return msgspec.json.encode(
            Registration(
                node=plain,
                generation=self._generation,
                interval_seconds=interval_seconds,
                machine_hint=options.machine_hint,
                boot_id=options.boot_id,
                join_token=options.join_token,
                first_public_key=self._key.first_public_key if succession else "",
                succession=succession,
                protocol=PROTOCOL,
            )
        )

    def signed_headers(self, request: SignedRequest, nonce: str) -> dict[str, str]:
        """The signature headers of a registration, made now."""
        now = int(self._wall())
        parameters = SignatureParameters(now, now + _SIGNATURE_SECONDS, nonce, self._key.public_key)
        return sign_request(request, parameters, self._key.private)

    def _read_key(self) -> NodeKey:
        with locked_folder(self._state_dir):
            key = load_node_key(self._state_dir)
        if key.node_id != self.node_id:
            raise StoreError(
                str(self._state_dir / KEY_FILE), f"now holds the key of another node, {key.node_id}; restart the agent"
            )
        return key

    def _known_coordinator(self) -> CoordinatorInfo:
        if self._coordinator is not None:
            return self._coordinator
        answer = self._sender.send("GET", "/v1/coordinator", largest_bytes=LARGEST_ANSWER_BYTES["coordinator"])
        if answer.status != 200:
            raise_for(answer)
        info = decoded(answer, CoordinatorInfo)
        try:
            named = coordinator_id_of_key(key_from_text("public_key", info.public_key))
        except ValidationError:
            named = ""
        if info.id != named or self._pinned not in ("", info.id):
            wanted = self._pinned or "the one that its key belongs to"
            raise RefusedError(
                "wrong-coordinator",
                f"{answer.address} is the coordinator {safe_text(info.id)}, not {wanted}",
                f"if the network moved to it, set coordinator_id to its id or remove {self._path}",
            )
        if info.protocol < PROTOCOL:
            raise RefusedError(
                "protocol",
                f"the coordinator at {answer.address} speaks protocol {info.protocol}, this node {PROTOCOL}: "
                "upgrade the coordinator",
            )
        if not self._pinned:
            self._pinned = info.id
            self._keep()
        self._coordinator = info
        return info

    def _next_generation(self, generation: int) -> None:
        """Store the generation that is used next. After the last one it starts again at 1."""
        self._generation = generation if 1 <= generation <= LAST_GENERATION else 1
        self._keep()

    def _keep(self) -> None:
        content = {"schema": "duxnet.remote/1.0", "coordinator_id": self._pinned, "generation": self._generation}
        replace_file(self._path, json.dumps(content).encode("ascii") + b"\n")


class _Proof:
    """Makes the headers of each attempt and keeps the last ones, for which the answer is signed."""

    def __init__(self, registrar: Registrar, path: str, audience: str, body: bytes) -> None:
        self._registrar = registrar
        self._request = SignedRequest("PUT", path, "", "application/json", audience, body)
        self._headers: dict[str, str] = {}
        self.body = body
        self.nonce = ""

    def headers(self) -> dict[str, str]:
        """New headers for each attempt."""
        nonce = self.nonce or secrets.token_urlsafe(12)
        self._headers = self._registrar.signed_headers(self._request, nonce)
        return dict(self._headers)

    def reason_against(self, answer: Answer, coordinator: CoordinatorInfo) -> str:
        """Why the answer to the last attempt is not proven to be the coordinator's; "" when it is."""
        signed = SignedAnswer(answer.status, answer.content_type, answer.body)
        try:
            verify_answer(signed, answer.proof, self._request, self._headers, coordinator.public_key, coordinator.id)
        except SignatureRefused as error:
            return error.reason
        return ""


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The content of `remote.json`. No field has a default, or a damaged name would remove the pin without an error."""

    schema: Literal["duxnet.remote/1.0"]
    coordinator_id: Annotated[str, msgspec.Meta(pattern="^c1[a-z2-7]{52}$")]
    generation: int


def _kept(path: Path) -> Optional[_Kept]:
    try:
        content = read_file(path, LARGEST_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from error
    try:
        return msgspec.json.decode(content, type=_Kept)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        remedy = "restore it from a backup, or remove it: then the node trusts the coordinator that answers next"
        raise DamagedStoreError(str(path), f"{ascii(str(error))[1:-1]}; {remedy}") from None
