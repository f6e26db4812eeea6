"""What casinos report becomes claims; one that reports nonsense stands in nobody's way (L18)."""

from datetime import UTC, datetime

from gateway.proof_building import REPORT_MINOR_MAX, believable, claims_of
from gateway.proofs_store import ReportedBalance
from ledger.sum_tree import Owed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOOKS = [
    {"kind": "clearing", "asset": "btc:BTC", "brand": brand, "player_id": "", "amount_minor": "5"}
    for brand in ("acme", "bravo")
]


def said(brand: str, player_id: str, amount_minor: int, asset: str = "btc:BTC") -> ReportedBalance:
    return ReportedBalance(
        brand=brand, player_id=player_id, asset=asset, amount_minor=amount_minor, as_of=NOW
    )


def claim(kind: str, brand: str, player_id: str, amount_minor: int) -> Owed:
    return Owed(
        asset="btc:BTC", kind=kind, brand=brand, player_id=player_id, amount_minor=amount_minor
    )


def test_l18_a_casino_that_reports_more_than_there_can_be_has_one_claim() -> None:
    """Each of its figures would do; together they are more than a tree of everybody can hold."""
    share = REPORT_MINOR_MAX // 2
    reported = [
        said("acme", "anna", share),
        said("acme", "ben", share),
        said("acme", "cleo", 1),
        said("bravo", "dora", 4),
    ]
    kept = believable(reported)
    assert kept == [said("bravo", "dora", 4)]
    assert claims_of(BOOKS, kept, ["btc:BTC"]).owed == [
        claim("player", "bravo", "dora", 4),
        claim("brand", "acme", "", 5),
        claim("brand", "bravo", "", 1),
    ]


def test_l18_the_bound_is_of_one_asset() -> None:
    reported = [said("acme", "anna", REPORT_MINOR_MAX), said("acme", "anna", 7, "ltc:LTC")]
    assert believable(reported) == reported
