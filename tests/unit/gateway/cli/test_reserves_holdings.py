"""What an operator who signs its own lies cannot count twice in a proof of reserves."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import reserves_proof
from gateway.cli.deposit_proof import Status

CHECKSUMMED = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
SEGWIT = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
COIN = f"{'ab' * 32}:0"


LEAF = "11" * 32


def bundle(
    asset: str, holdings: list[tuple[str, str | None]], *, owed: int = 0, **figures: int
) -> bytes:
    """A signed bundle of one asset that owes `owed` to one; each holding is one unit. `figures` is
    what the statement says beside that."""
    network = asset.partition(":")[0]
    rows = [
        {"asset": asset, "amount_minor": "1", "address": address, "outpoint": outpoint}
        for address, outpoint in holdings
    ]
    text = "".join(f"{asset} 1 {address} {outpoint or '-'}\n" for address, outpoint in holdings)
    told = dict.fromkeys(("in_transit", "unposted", "unexplained", "receivable"), 0) | figures
    reserves = len(rows) + told["in_transit"] - told["unposted"]
    line: dict[str, Any] = {
        "asset": asset,
        "caip19": None,
        "decimals": None,
        "owed": {
            "leaves": 1 if owed else 0,
            "root": LEAF if owed else hashlib.sha256(b"").hexdigest(),
            "sum": str(owed),
            "unfunded": "0",
        },
        **{name: str(figure) for name, figure in told.items()},
        "on_chain": str(len(rows)),
        "reserves": str(reserves),
        "surplus": str(reserves - owed),
    }
    said = {
        "proof": "prf_test_1",
        "livemode": False,
        "made_at": "2026-01-01T00:00:00Z",
        "previous": None,
        "networks": [
            {
                "network": network,
                "caip2": "test:1",
                "height": 1,
                "block_hash": "00",
                "holdings": {
                    "count": len(rows),
                    "sha256": hashlib.sha256(text.encode()).hexdigest(),
                },
            }
        ],
        "assets": [line],
        "reports": {},
    }
    statement = f"cage-reserves/1\n{json.dumps(said)}"
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    document = {
        "format": "cage-reserves-bundle/1",
        "statement": statement,
        "key_id": "att_" + hashlib.sha256(public).hexdigest()[:16],
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(key.sign(statement.encode())).decode(),
        "liabilities": {asset: [{"hash": LEAF, "sum": str(owed)}] if owed else []},
        "holdings": {network: rows},
        "transactions": {},
        "ownership": [],
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("owed", "figures", "status", "detail"),
    [
        (1, {}, Status.PROVEN, "what is on chain covers what is owed"),
        (1, {"in_transit": 9}, Status.PROVEN, "what is on chain covers what is owed"),
        (3, {"in_transit": 2}, Status.TOLD, "only by what is said to be on its way: eth:ETH 2"),
        (3, {"unposted": -4}, Status.TOLD, "only by what is said to be on its way: eth:ETH 2"),
        (3, {}, Status.PROVEN, "missing in minor units: eth:ETH 2"),
    ],
)
def test_l18_what_covers_only_by_the_operators_word_is_told(
    owed: int, figures: dict[str, int], status: Status, detail: str
) -> None:
    """Whatever it says is on its way, the reader sees how much of the cover rests on that."""
    verdict = reserves_proof.verify(bundle("eth:ETH", [(CHECKSUMMED, None)], owed=owed, **figures))
    [found] = [check for check in verdict.checks if check.name == "coverage"]
    assert found.status is status
    assert found.detail.endswith(detail)
    failed = [check.name for check in verdict.checks if check.status is Status.FAILED]
    assert failed == []


def holdings_of(asset: str, holdings: list[tuple[str, str | None]]) -> Status:
    verdict = reserves_proof.verify(bundle(asset, holdings))
    [found] = [check.status for check in verdict.checks if check.name == "holdings"]
    return found


@pytest.mark.parametrize(
    ("asset", "holdings"),
    [
        ("eth:ETH", [(CHECKSUMMED, None)]),
        ("btc:BTC", [(SEGWIT, COIN), (SEGWIT, f"{'ab' * 32}:1")]),
    ],
)
def test_l18_each_place_once_adds_up(asset: str, holdings: list[tuple[str, str | None]]) -> None:
    assert holdings_of(asset, holdings) is Status.PROVEN


@pytest.mark.parametrize(
    ("asset", "holdings"),
    [
        pytest.param(
            "eth:ETH", [(CHECKSUMMED, None), (CHECKSUMMED.lower(), None)], id="in-another-case"
        ),
        pytest.param("btc:BTC", [(SEGWIT, COIN), (SEGWIT, None)], id="a-coin-and-its-address"),
        pytest.param("btc:BTC", [(SEGWIT, None)], id="an-address-without-its-coins"),
        pytest.param("btc:BTC", [(SEGWIT.upper(), None)], id="the-same-in-capitals"),
    ],
)
def test_l18_nothing_is_counted_twice_in_another_writing(
    asset: str, holdings: list[tuple[str, str | None]]
) -> None:
    assert holdings_of(asset, holdings) is Status.FAILED
