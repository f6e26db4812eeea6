"""The wire: what is encoded decodes to itself, and what is not a message is refused by name."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from signer import protocol
from signer.protocol import Head, Payment, PoolRow, ProtocolError, Refusal, SignedTx, SignRequest
from tests.support.sign_requests import authorise, evm_request, order_body, utxo_request
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
        (("purpose",), "gift"),
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


def batch_request(kit: VaultKit, *places: int) -> SignRequest:
    """Payments of several client requests: each place names the one that asked for it."""
    claims = [authorise(order_body(request_id=f"r-{place}")) for place in sorted(set(places))]
    return utxo_request(
        kit,
        payments=tuple(
            # As rows of a database have it: a copy each, the headers in any order.
            Payment(
                brand="acme",
                request_id=f"r-{number}",
                output_index=number,
                authorisation=replace(
                    claims[place], headers=dict(sorted(claims[place].headers.items(), reverse=True))
                ),
            )
            for number, place in enumerate(places)
        ),
    )


def test_a_signed_request_is_written_once_and_read_as_one(kit: VaultKit) -> None:
    request = batch_request(kit, 0, 0, 1, 0, 1)
    wire = over_the_wire(protocol.encode_sign_request(request))
    written = [item["authorisation"] for item in wire["payments"]]
    assert [item if isinstance(item, int) else "whole" for item in written] == [
        "whole", 0, "whole", 0, 1,
    ]  # fmt: skip
    found = protocol.decode_sign_request(wire)
    assert found == request
    assert len({id(item.authorisation) for item in found.payments}) == 2


def test_a_signed_request_is_written_once_in_a_lot_too(kit: VaultKit) -> None:
    lot = [batch_request(kit, 0, 1), batch_request(kit, 1, 0)]
    wire = over_the_wire(protocol.encode_sign_many_request(lot))
    assert [item["authorisation"] for item in wire["questions"][1]["payments"]] == [1, 0]
    assert protocol.decode_sign_many_request(wire) == lot


@pytest.mark.parametrize("place", [1, 2, -1, True, 0.0, "0", None, [0], {}])
def test_s20_a_place_of_no_request_before_it_is_refused(kit: VaultKit, place: object) -> None:
    message = protocol.encode_sign_request(batch_request(kit, 0, 0, 1))
    message["payments"][1]["authorisation"] = place
    with pytest.raises(ProtocolError, match="authorisation"):
        protocol.decode_sign_request(message)


def test_s20_the_first_payment_names_no_place(kit: VaultKit) -> None:
    message = protocol.encode_sign_request(batch_request(kit, 0, 0))
    message["payments"].reverse()
    with pytest.raises(ProtocolError, match="no request before it"):
        protocol.decode_sign_request(message)


@pytest.mark.parametrize("is_reordered", [False, True])
def test_s20_a_request_that_is_written_twice_is_refused(kit: VaultKit, is_reordered: bool) -> None:
    message = protocol.encode_sign_request(batch_request(kit, 0, 0))
    whole = message["payments"][0]["authorisation"]
    headers = dict(sorted(whole["headers"].items(), reverse=is_reordered))
    message["payments"][1]["authorisation"] = {**whole, "headers": headers}
    with pytest.raises(ProtocolError, match="written twice"):
        protocol.decode_sign_request(message)
    with pytest.raises(ProtocolError, match="written twice"):
        protocol.decode_sign_many_request({"op": "sign_many", "questions": [message]})
