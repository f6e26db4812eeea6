"""The wire: what is encoded decodes to itself, and what is not a message is refused by name."""

import asyncio
from typing import Any

import pytest

from signer import protocol
from signer.protocol import Head, PoolRow, ProtocolError, Refusal, SignedTx, SignRequest
from tests.support.sign_requests import evm_request, utxo_request
from tests.support.vault import VaultKit

SIGNED = SignedTx(attempt_id="a-1", raw=b"\x01\x02", txid="ab", log_sequence=7)
REFUSAL = Refusal(code="expired", reason="too late")


def over_the_wire(message: dict[str, Any]) -> dict[str, Any]:
    """Through a frame and the strict parser."""
    return protocol.strict_loads(protocol.frame(message)[4:])


def test_every_message_decodes_to_what_was_encoded(kit: VaultKit) -> None:
    for request in (utxo_request(kit, own_path="x", replaces="y"), evm_request()):
        wire = over_the_wire(protocol.encode_sign_request(request))
        assert protocol.operation_of(wire) is protocol.Operation.SIGN
        assert protocol.decode_sign_request(wire) == request
    for answer in (SIGNED, REFUSAL):
        wire = over_the_wire(protocol.encode_sign_answer(answer))
        assert protocol.decode_sign_answer(wire) == answer
    for found in (SIGNED, REFUSAL, None):
        wire = over_the_wire(protocol.encode_lookup_answer(found))
        assert protocol.decode_lookup_answer(wire) == found
    wire = over_the_wire(protocol.encode_lookup_request("a-1"))
    assert protocol.decode_lookup_request(wire) == "a-1"


def test_head_and_pool_messages_decode_to_what_was_encoded() -> None:
    head = Head(version=1, fingerprint="ab", sequence=3, entry_hash="cd")
    assert protocol.decode_head_answer(over_the_wire(protocol.encode_head_answer(head))) == head
    refused = over_the_wire(protocol.encode_refusal(REFUSAL))
    assert protocol.decode_head_answer(refused) == REFUSAL
    assert protocol.decode_verify_answer(refused) == REFUSAL
    assert protocol.operation_of(protocol.encode_head_request()) is protocol.Operation.HEAD
    rows = (PoolRow(path="m/1", address="x"), PoolRow(path="m/2", address="y"))
    wire = over_the_wire(protocol.encode_verify_request(network="btc", rows=rows))
    assert protocol.decode_verify_request(wire) == ("btc", rows)
    wire = over_the_wire(protocol.encode_verify_answer([True, False]))
    assert protocol.decode_verify_answer(wire) == (True, False)


def test_refused_look_up_is_never_taken_for_the_attempts_own_refusal() -> None:
    with pytest.raises(ProtocolError, match="lookup refused"):
        protocol.decode_lookup_answer(protocol.encode_refusal(REFUSAL))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b'{"a":1,"a":2}',
        b'{"a":1.5}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"1" * 5_000 + b"}",
    ],
)
def test_s20_text_that_is_not_one_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.strict_loads(data)


def test_brackets_in_strings_are_not_depth() -> None:
    assert protocol.strict_loads(b'{"a":"' + b"[" * 500 + b'\\"["}')["a"].startswith("[[")


def changed(request: SignRequest, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The request's message with one field replaced."""
    message = protocol.encode_sign_request(request)
    inner: Any = message
    for key in path[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[path[-1]] = value
    return message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("attempt_id",), 1),
        (("attempt_id",), "\ud800"),
        (("purpose",), "sweep"),
        (("purpose",), None),
        (("network",), None),
        (("worker_epoch",), "1"),
        (("worker_epoch",), True),
        (("unsigned",), "?"),
        (("unsigned",), "\u0661"),
        (("input_paths",), "m"),
        (("input_paths",), [1]),
        (("change_paths",), []),
        (("change_paths",), {"-1": "m"}),
        (("change_paths",), {"01": "m"}),
        (("change_paths",), {"\u0661": "m"}),
        (("change_paths",), {"1": 1}),
        (("payments",), {}),
        (("payments",), [1]),
        (("payments", "0", "output_index"), "0"),
        (("payments", "0", "authorisation"), None),
        (("payments", "0", "authorisation", "headers"), []),
        (("payments", "0", "authorisation", "body"), 1),
        (("own_path",), 1),
        (("replaces",), 1),
        (("unknown",), 1),
    ],
)
def test_malformed_sign_request_is_refused(path: tuple[str, ...], value: Any) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_sign_request(changed(evm_request(), path, value))


@pytest.mark.parametrize(
    "call",
    [
        lambda: protocol.operation_of({"op": "drain"}),
        lambda: protocol.operation_of({}),
        lambda: protocol.decode_verify_request({"op": "x", "network": "btc", "rows": {}}),
        lambda: protocol.decode_verify_request({"op": "x", "network": "btc", "rows": [{}] * 1001}),
        lambda: protocol.decode_verify_request({"op": "x", "network": "btc", "rows": [1]}),
        lambda: protocol.decode_verify_answer({"ok": True, "agreed": [1]}),
        lambda: protocol.decode_lookup_request({"op": "lookup"}),
        lambda: protocol.decode_lookup_answer({"ok": True, "found": 1}),
        lambda: protocol.decode_head_answer({"ok": True}),
        lambda: protocol.decode_sign_answer({"ok": True}),
        lambda: protocol.frame({"a": "x" * protocol.MAX_FRAME_BYTES}),
    ],
)
def test_malformed_message_is_refused(call: Any) -> None:
    with pytest.raises(ProtocolError):
        call()


async def read(data: bytes) -> dict[str, Any] | None:
    """One frame from a stream that ends after the data."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await protocol.read_frame(reader)


async def test_frames_are_read_whole_or_refused() -> None:
    assert await read(protocol.frame({"op": "head"})) == {"op": "head"}
    assert await read(b"") is None
    for wrong in (b"\0", b"\0\0\0\x09{}", (2**31).to_bytes(4, "big")):
        with pytest.raises(ProtocolError):
            await read(wrong)
