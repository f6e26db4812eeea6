"""What a body may hold: amounts, JSON, addresses, unknown fields (A11-A20, A24, A32)."""

import json
from typing import Any
from urllib.parse import quote

from tests.support.api import (
    BTC_ADDRESS,
    ETH_ADDRESS,
    LTC_ADDRESS,
    TOKEN,
    ApiHouse,
    problem,
)

A11_AMOUNTS = (
    "-1", "0", "-0", "1e5", "NaN", "sNaN", "Infinity", "+1", " 1 ", "1_000", "\uff11\uff12",
    "\u0663", ".5",
    "1.", "00012", "0x10", "1" * 100, "", "1,5", "0.0",
)  # fmt: skip


async def refuse_all(house: ApiHouse, field: str, values: tuple[object, ...], **more: str) -> None:
    """Each value is a 422 that names the field, and nothing is stored."""
    for value in values:
        fields: dict[str, Any] = {**more, field: value}
        reply = await house.withdraw(**fields)
        found = problem(reply)
        assert reply.status == 422, (value, reply.body)
        assert found["errors"][0]["field"] == field, (value, found)
    assert await house.rows("SELECT id FROM gateway.withdrawals") == []
    assert await house.rows("SELECT key FROM gateway.idempotency") == []


async def test_a11_amounts_that_are_no_strict_decimals_are_refused(house: ApiHouse) -> None:
    await refuse_all(house, "amount", A11_AMOUNTS)


async def test_a11_pam_balance_may_be_zero_and_nothing_stranger(house: ApiHouse) -> None:
    strange = tuple(text for text in A11_AMOUNTS if text not in ("0", "0.0"))
    await refuse_all(house, "pam_balance", strange)
    assert (await house.withdraw(pam_balance="0")).status == 202
    assert (await house.withdraw(pam_balance="0.00")).status == 202


async def test_a12_a_json_number_for_an_amount_names_the_field(house: ApiHouse) -> None:
    values = (0.1, 1, 10**40, True, ["1"], {"a": "1"})
    await refuse_all(house, "amount", values)


A12_BODIES = (
    b'{"amount": NaN}',
    b'{"amount": Infinity}',
    b'{"amount": -Infinity}',
    b'{"amount": "1", "amount": "2"}',
    b'{"metadata": {"a": "1", "a": "2"}}',
    b'{"player_id": "\\ud800"}',
    b'{"\\udfff": "x"}',
    b'{"player_id": "\xff"}',
    b"[]",
    b'"text"',
    b"null",
    b"{",
    b"{} {}",
    b'{"a": 01}',
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
)


async def test_a12_a24_what_is_not_strict_json_is_malformed(house: ApiHouse) -> None:
    for body in A12_BODIES:
        reply = await house.call("POST", "/v1/withdrawals", body=body, idempotency_key="k1")
        found = (reply.status, problem(reply)["code"])
        assert found == (400, "malformed_json"), body[:40]


async def test_a12_a_number_that_floats_cannot_hold_is_still_only_a_wrong_type(
    house: ApiHouse,
) -> None:
    reply = await house.call(
        "POST", "/v1/withdrawals", body=b'{"amount": 1e400}', idempotency_key="k1"
    )
    assert reply.status == 422


A13_ORDERS = (
    ("btc:BTC", BTC_ADDRESS, "0.123456789"),
    ("ltc:LTC", LTC_ADDRESS, "1.000000001"),
    ("eth:USDT", ETH_ADDRESS, "1.0000001"),
    ("eth:ETH", ETH_ADDRESS, "0.1234567890123456789"),
    ("btc:BTC", BTC_ADDRESS, "0.100000000"),
)


async def test_a13_more_digits_than_the_asset_has_are_never_rounded(house: ApiHouse) -> None:
    for asset, address, amount in A13_ORDERS:
        reply = await house.withdraw(asset=asset, address=address, amount=amount)
        assert (reply.status, problem(reply)["code"]) == (422, "invalid_amount")


async def test_a14_eip_55_checksums_are_checked_and_lower_case_is_taken(house: ApiHouse) -> None:
    wrong = ETH_ADDRESS.replace("aA", "Aa", 1)
    await refuse_all(house, "address", (wrong,), asset="eth:ETH")
    reply = await house.withdraw(asset="eth:ETH", address=ETH_ADDRESS.lower())
    assert (reply.status, reply.json()["address"]) == (202, ETH_ADDRESS)


async def test_a15_addresses_of_other_networks_are_refused(house: ApiHouse) -> None:
    of_others = (
        LTC_ADDRESS,
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        ETH_ADDRESS,
    )
    await refuse_all(house, "address", of_others, asset="btc:BTC")
    await refuse_all(house, "address", (BTC_ADDRESS, ETH_ADDRESS), asset="ltc:LTC")
    await refuse_all(house, "address", (BTC_ADDRESS, ETH_ADDRESS[2:]), asset="eth:USDT")


async def test_a17_broken_segwit_addresses_are_refused(house: ApiHouse) -> None:
    broken = (
        # BIP 350: v0 with a bech32m checksum, v1 with a bech32 one; v2; v1 of 20 bytes; mixed
        # case; cut; typo.
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7k35mrzd",
        "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqdmchcc",
        "bcrt1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqs635n3",
        "bcrt1pw508d6qejxtdg4y5r3zarvary0c5xw7k62vg0x",
        BTC_ADDRESS[:10] + BTC_ADDRESS[10:].upper(),
        BTC_ADDRESS[:-1],
        BTC_ADDRESS[:-1] + "1",
    )
    await refuse_all(house, "address", broken, asset="btc:BTC")


async def test_a18_addresses_that_swallow_coins_are_refused(house: ApiHouse) -> None:
    zero = "0x" + "00" * 20
    precompiles = tuple("0x" + "00" * 19 + f"{number:02x}" for number in (1, 9, 0x11))
    await refuse_all(house, "address", (zero, *precompiles, TOKEN), asset="eth:ETH")
    await refuse_all(house, "address", (zero, TOKEN), asset="eth:USDT")


async def test_a19_strange_text_in_an_address_is_never_trimmed(house: ApiHouse) -> None:
    strange = (
        " " + BTC_ADDRESS,
        BTC_ADDRESS + " ",
        BTC_ADDRESS + "\n",
        BTC_ADDRESS + "\x00",
        BTC_ADDRESS.replace("q", "\uff51", 1),
        BTC_ADDRESS[:8] + "\u200b" + BTC_ADDRESS[8:],
        "\u202e" + BTC_ADDRESS,
        BTC_ADDRESS.replace("c", "\u0441", 1),  # Cyrillic es
    )
    await refuse_all(house, "address", strange, asset="btc:BTC")


async def test_a20_own_addresses_are_no_destinations_but_players_are(house: ApiHouse) -> None:
    own = (await house.own_text("btc", "hot"), await house.own_text("btc", "change"))
    await refuse_all(house, "address", own, asset="btc:BTC")
    gas = await house.own_text("eth", "gas")
    await refuse_all(house, "address", (gas,), asset="eth:USDT")
    made = await house.call("POST", "/v1/players/p2/addresses", body={"network": "btc"})
    reply = await house.withdraw(address=made.json()["address"])
    assert reply.status == 202


async def test_a20_another_brands_player_can_be_paid_like_anybody(house: ApiHouse) -> None:
    made = await house.call(
        "POST", "/v1/players/p9/addresses", body={"network": "btc"}, key="bravo-key"
    )
    assert (await house.withdraw(address=made.json()["address"])).status == 202


async def test_a32_unknown_fields_are_refused_by_name(house: ApiHouse) -> None:
    for field in ("status", "state", "approved", "fee", "id", "created_at", "brand", "tenant_id"):
        found = problem(await house.withdraw(**{field: "x"}))
        assert found["status"] == 422
        assert found["errors"][0]["field"] == field
        assert found["errors"][0]["code"] == "unknown_field"


async def test_required_fields_are_named(house: ApiHouse) -> None:
    for field in ("request_id", "player_id", "asset", "address", "amount", "pam_balance"):
        missing: dict[str, Any] = {field: None}
        reply = await house.withdraw(**missing)
        assert problem(reply)["errors"] == [
            {"field": field, "code": "required", "detail": "Field required"}
        ]


A23_TEXTS = (
    "'; DROP TABLE gateway.withdrawals; --",
    '" OR 1=1 --',
    "%27%20OR%201%3D1",
    "$1",
    ":brand",
    "\\",
    "a\x00b",
    "{{7*7}}",
    "${jndi:ldap://x}",
)


async def test_a23_sql_in_any_string_field_has_no_effect(house: ApiHouse) -> None:
    for text in A23_TEXTS:
        for field in ("request_id", "player_id", "asset", "address", "fee_class", "valid_until"):
            reply = await house.withdraw(**{field: text})
            assert reply.status in (202, 422), (field, text, reply.body)
        for metadata in ({text: "x"}, {"x": text}):
            reply = await house.withdraw(metadata=metadata)
            assert reply.status in (202, 422), (metadata, reply.body)
    assert (await house.withdraw()).status == 202


async def test_a23_a40_sql_in_filters_cursors_and_paths_has_no_effect(house: ApiHouse) -> None:
    for text in (*A23_TEXTS, "x" * 10_000):
        for name in ("state", "player_id", "asset", "txid", "created_after", "cursor", "limit"):
            reply = await house.call("GET", f"/v1/withdrawals?{name}={quote(text)}"[:8000])
            assert reply.status in (200, 422), (name, text, reply.body)
            reply = await house.call("GET", f"/v1/deposits?{name}={quote(text)}"[:8000])
            assert reply.status in (200, 422), (name, text, reply.body)
    clamped = await house.call("GET", "/v1/withdrawals?limit=1000000000")
    assert clamped.status == 200


async def test_metadata_travels_unchanged(house: ApiHouse) -> None:
    metadata = {"table": "7", "наме": "ünï"}
    reply = await house.withdraw(metadata=metadata)
    assert json.loads(reply.body)["metadata"] == metadata
