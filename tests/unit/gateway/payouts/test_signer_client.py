"""S21: whatever goes wrong on the way to the signer is `SignerUnavailable`, never an answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.signer_client import SignerClient
from signer import protocol
from signer.protocol import Head, Purpose, Refusal, SignedTx, SignRequest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

REQUEST = SignRequest(
    attempt_id="a1", purpose=Purpose.WITHDRAWAL, network="btc", worker_epoch=1, unsigned=b"psbt",
    input_paths=(), change_paths={}, payments=(),
)  # fmt: skip


@asynccontextmanager
async def listening(path: Path, handler: Handler) -> AsyncIterator[SignerClient]:
    server = await asyncio.start_unix_server(handler, str(path))
    try:
        yield SignerClient(path, timeout_seconds=0.5)
    finally:
        server.close()
        await server.wait_closed()


def answering(message: dict[str, object]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await protocol.read_frame(reader)
        writer.write(protocol.frame(message))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_signed_answer_is_returned(tmp_path: Path) -> None:
    signed = SignedTx(attempt_id="a1", raw=b"\x01", txid="ab" * 32, log_sequence=7)

    async with listening(tmp_path / "s", answering(protocol.encode_sign_answer(signed))) as client:
        assert await client.sign(REQUEST) == signed


async def test_refusal_is_an_answer_not_a_failure(tmp_path: Path) -> None:
    refusal = Refusal(code="payment_mismatch", reason="other address")

    async with listening(tmp_path / "s", answering(protocol.encode_refusal(refusal))) as client:
        assert await client.sign(REQUEST) == refusal


async def test_head_is_read(tmp_path: Path) -> None:
    head = Head(version=1, fingerprint="f", sequence=3, entry_hash="e")

    async with listening(tmp_path / "s", answering(protocol.encode_head_answer(head))) as client:
        assert await client.head() == head


async def test_s21_no_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SignerUnavailable):
        await SignerClient(tmp_path / "none", timeout_seconds=0.5).sign(REQUEST)


@pytest.mark.parametrize("handler", [silent, hanging_up])
async def test_s21_silence_is_unavailable(tmp_path: Path, handler: Handler) -> None:
    async with listening(tmp_path / "s", handler) as client:
        with pytest.raises(SignerUnavailable):
            await client.sign(REQUEST)


async def test_answer_for_another_attempt_is_never_taken(tmp_path: Path) -> None:
    other = SignedTx(attempt_id="a2", raw=b"\x01", txid="ab" * 32, log_sequence=7)

    async with listening(tmp_path / "s", answering(protocol.encode_sign_answer(other))) as client:
        with pytest.raises(SignerUnavailable):
            await client.sign(REQUEST)


async def test_unreadable_answer_is_unavailable(tmp_path: Path) -> None:
    async with listening(tmp_path / "s", answering({"ok": True, "surprise": "1"})) as client:
        with pytest.raises(SignerUnavailable):
            await client.sign(REQUEST)
