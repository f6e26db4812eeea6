"""The gateway's side of the signer's socket: one request per connection, a time-out around all.

Owns framing and typed failure; holds no key and decides nothing. Whatever goes wrong on the way is
`SignerUnavailable`: the signer may have signed, so callers ask again with the same bytes, and never
plan anew (S21). What fails before the way, a message over the frame, is `RequestTooLarge`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gateway.payouts.errors import RequestTooLarge, SignerUnavailable
from signer import protocol
from signer.protocol import (
    Attestations,
    AttestRequest,
    Head,
    LogPage,
    LogRequest,
    PoolRow,
    Refusal,
    SignedTx,
    SignRequest,
    Voided,
    VoidRequest,
)
from signer.protocol import protocol_reserves as reserves

T = TypeVar("T")


class SignerClient:
    """Talks to one signer over its Unix socket."""

    def __init__(self, socket: Path, *, timeout_seconds: float) -> None:
        self._socket = socket
        self._timeout_seconds = timeout_seconds

    async def head(self) -> Head:
        """Where the signer's log stands; raises SignerUnavailable."""
        answer = await self._ask(protocol.encode_head_request())
        head = _decoded(protocol.decode_head_answer, answer)
        if isinstance(head, Refusal):
            raise SignerUnavailable(f"head refused: {head.code}")
        return head

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        """The signature, or the refusal; raises SignerUnavailable, RequestTooLarge."""
        answer = _decoded(
            protocol.decode_sign_answer, await self._ask(protocol.encode_sign_request(request))
        )
        if isinstance(answer, SignedTx) and answer.attempt_id != request.attempt_id:
            raise SignerUnavailable("the answer belongs to another attempt")
        return answer

    async def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]:
        """The answers in order, the last one the first refusal; what is behind it was not looked
        at. Raises SignerUnavailable, RequestTooLarge."""
        answers = _decoded(
            protocol.decode_sign_many_answer,
            await self._ask(protocol.encode_sign_many_request(requests)),
        )
        if isinstance(answers, Refusal):
            raise SignerUnavailable(f"sign_many refused: {answers.code}")
        is_ended = bool(answers) and isinstance(answers[-1], Refusal)
        if not is_ended and len(answers) != len(requests):
            raise SignerUnavailable("sign_many answered another number of questions")
        for request, answer in zip(requests, answers, strict=False):
            if isinstance(answer, SignedTx) and answer.attempt_id != request.attempt_id:
                raise SignerUnavailable("the answer belongs to another attempt")
        if any(isinstance(answer, Refusal) for answer in answers[:-1]):
            raise SignerUnavailable("sign_many went on behind a refusal")
        return answers

    async def lookup(self, attempt_id: str) -> SignedTx | Refusal | None:
        """What the signer answered for an attempt; None when it never did."""
        answer = await self._ask(protocol.encode_lookup_request(attempt_id))
        return _decoded(protocol.decode_lookup_answer, answer)

    async def log(self, request: LogRequest) -> LogPage:
        """The signatures of a network after an entry of the log; raises SignerUnavailable."""
        answer = await self._ask(protocol.encode_log_request(request))
        page = _decoded(protocol.decode_log_answer, answer)
        if isinstance(page, Refusal):
            raise SignerUnavailable(f"log refused: {page.code}")
        return page

    async def recall(self, attempt_id: str) -> SignRequest | None:
        """What the signer was asked for a signed attempt; None when it keeps no question."""
        answer = await self._ask(protocol.encode_recall_request(attempt_id))
        return _decoded(protocol.decode_recall_answer, answer)

    async def void(self, request: VoidRequest) -> Voided | Refusal:
        """Forbid a first signature for ever, or the refusal; raises SignerUnavailable."""
        answer = await self._ask(protocol.encode_void_request(request))
        return _decoded(protocol.decode_void_answer, answer)

    async def attest(self, request: AttestRequest) -> Attestations | Refusal:
        """Whose addresses these are, signed; raises SignerUnavailable."""
        answer = _decoded(
            protocol.decode_attest_answer,
            await self._ask(protocol.encode_attest_request(request)),
        )
        if isinstance(answer, Attestations) and len(answer.items) != len(request.items):
            raise SignerUnavailable("attest answered another number of items")
        return answer

    async def prove(self, request: reserves.ProveRequest) -> reserves.Proven | Refusal:
        """A signed statement about reserves, and keys of addresses over it; raises
        SignerUnavailable."""
        answer = _decoded(
            reserves.decode_prove_answer, await self._ask(reserves.encode_prove_request(request))
        )
        if isinstance(answer, reserves.Proven) and len(answer.items) != len(request.paths):
            raise SignerUnavailable("prove answered another number of paths")
        return answer

    async def verify_addresses(self, *, network: str, rows: Sequence[PoolRow]) -> tuple[bool, ...]:
        """Which pool rows the signer derives to the same address, in order."""
        answer = _decoded(
            protocol.decode_verify_answer,
            await self._ask(protocol.encode_verify_request(network=network, rows=rows)),
        )
        if isinstance(answer, Refusal):
            raise SignerUnavailable(f"verify_addresses refused: {answer.code}")
        if len(answer) != len(rows):
            raise SignerUnavailable("verify_addresses answered another number of rows")
        return answer

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            data = protocol.frame(message)
        except protocol.ProtocolError as error:  # ours, and the same for ever: no outage
            raise RequestTooLarge(str(error)) from error
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(data)
                    await writer.drain()
                    answer = await protocol.read_frame(reader)
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, protocol.ProtocolError) as error:
            raise SignerUnavailable(f"{type(error).__name__}: {error}") from error
        if answer is None:
            raise SignerUnavailable("the signer closed the connection without an answer")
        return answer


def _decoded(decode: Callable[[dict[str, Any]], T], answer: dict[str, Any]) -> T:
    try:
        return decode(answer)
    except protocol.ProtocolError as error:
        raise SignerUnavailable(f"unreadable answer: {error}") from error
