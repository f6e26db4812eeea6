"""References tell their origin; a cursor is read back or refused."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway.api.references import (
    DepositKey,
    decode_place,
    decode_text,
    deposit_of,
    encode_place,
    encode_text,
    withdrawal_of,
)
from gateway.errors import Invalid
from ledger.reading import Place

WD = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("deposit:btc:ab:out:3:1:final", ("btc", "ab", "out:3", "")),
        ("deposit:btc:ab:out:0@ff:2:reversed", ("btc", "ab", "out:0", "ff")),
        ("deposit:eth:0xab:trace:0.1:1:provisional", ("eth", "0xab", "trace:0.1", "")),
        ("deposit:eth:0xab:value:1:clearing", ("eth", "0xab", "value", "")),
    ],
)
def test_a_deposits_reference_names_it(reference: str, key: tuple[str, str, str, str]) -> None:
    network, txid, position, coinbase_hash = key
    assert deposit_of(reference) == DepositKey(
        network=network, txid=txid, position=position, coinbase_hash=coinbase_hash
    )


@pytest.mark.parametrize("reference", ["", "deposit:btc:ab", "inflow:1:1:assign", "w:deposit:a:b"])
def test_other_references_name_no_deposit(reference: str) -> None:
    assert deposit_of(reference) is None


def test_a_withdrawals_reference_names_it() -> None:
    assert withdrawal_of(f"withdrawal:{WD}:settled:7:reversed") == WD
    assert withdrawal_of("withdrawal:not-an-id:reserve") is None
    assert withdrawal_of(f"deposit:{WD}:reserve") is None


def test_a_place_comes_back_from_its_cursor_to_the_microsecond() -> None:
    place = Place(booked_at=AT, posting_id=WD, line=2_000)
    until = AT.replace(year=2027)
    assert decode_place(encode_place(place, until=until)) == (place, until)
    assert decode_place(None) is None
    assert decode_text(encode_text("player:acme:a+b=c:held:btc:BTC")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01|x|1|2026-01-02",
        f"2026-01-01T00:00:00|{WD.hex}|1|2026-01-02T00:00:00+00:00",
        f"2026-01-01T00:00:00+00:00|{WD.hex}|99999|2026-01-02T00:00:00+00:00",
        f"2026-01-01T00:00:00+00:00|{WD.hex}|1|9999-01-02T00:00:00+00:00",
        f"2026-01-01T00:00:00+00:00|{WD.hex}|1|2026-01-02T00:00:00+00:00|more",
    ],
)
def test_a_cursor_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        decode_place(encode_text(text))


@pytest.mark.parametrize("cursor", ["%%%", "é", "/w", encode_text("a\x00b")])
def test_a_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        decode_text(cursor)
