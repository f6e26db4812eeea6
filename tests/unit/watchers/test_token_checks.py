"""D39, D47, D53: what becomes of claims when balances say less, more, or nothing. Pure table."""

from uuid import UUID

import pytest

from config.assets import AssetSpec, Tier
from watchers import token_checks
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import TokenFacts, Transfer
from watchers.token_checks import BOOKED_MAX_MINOR, FindingKind

KEY = "0x" + "11" * 20
SUPPLY = 1_000
MAX = 2**256 - 1

ADDRESS = AddressRow(
    id=UUID(int=1),
    network="eth",
    role=AddressRole.DEPOSIT,
    brand="acme",
    player_id="anna",
    account=1,
    branch=0,
    address_index=0,
    path="m",
    key=KEY,
    address=KEY,
    scheme="eoa",
    is_verified=True,
    issued_at=None,
    retired_at=None,
    version=1,
)


def _asset(*, has_fee: bool = False, is_native: bool = False) -> AssetSpec:
    return AssetSpec(
        id="eth:ETH" if is_native else "eth:TOK",
        network="eth",
        symbol="ETH" if is_native else "TOK",
        decimals=6,
        contract=None if is_native else "0x" + "aa" * 20,
        caip19="",
        dust_minor=0,
        minimum_deposit_minor=0,
        minimum_withdrawal_minor=0,
        tiers=(Tier(up_to_minor=None, min_depth=1, full_depth=2),),
        has_transfer_fee=has_fee,
    )


def _judge(
    amounts: list[int],
    moved: int | None,
    *,
    asset: AssetSpec,
    gifts: int = 0,
    decimals: int | None = 6,
    supply: int | None = SUPPLY,
) -> tuple[list[int | None], FindingKind | None, int]:
    """(what is left of each transfer, the finding, what goes to suspense)."""
    transfers = tuple(
        Transfer(txid="0x01", position=f"log:{n}", asset=asset.id, to_key=KEY, amount_minor=amount)
        for n, amount in enumerate(amounts)
    )
    facts = TokenFacts(decimals=decimals, total_supply_minor=supply)
    cuts, finding = token_checks._judge(
        token_checks._Claim(
            asset=asset,
            address=ADDRESS,
            transfers=transfers,
            gifts_minor=gifts,
            moved_minor=moved,
            facts=None if asset.is_native or moved is None else facts,
        )
    )
    by_place = {item.position: cut for item, cut in cuts}
    left = [by_place.get(item.position, item) for item in transfers]
    return (
        [None if item is None else item.amount_minor for item in left],
        None if finding is None else finding.kind,
        0 if finding is None else finding.suspense_minor,
    )


@pytest.mark.parametrize(
    ("amounts", "moved", "left", "kind", "suspense"),
    [
        ([100], 100, [100], None, 0),
        ([100, 7], 107, [100, 7], None, 0),
        ([100], 99, [None], FindingKind.SHORT, 99),
        ([100, 7], 100, [None, None], FindingKind.SHORT, 100),
        ([100], 0, [None], FindingKind.SHORT, 0),
        ([100], -5, [None], FindingKind.SHORT, 0),
        ([100], 101, [100], FindingKind.SURPLUS, 1),
        ([SUPPLY], SUPPLY, [SUPPLY], None, 0),
        ([SUPPLY + 1], SUPPLY + 1, [None], FindingKind.IMPOSSIBLE, SUPPLY + 1),
        ([MAX], 0, [None], FindingKind.IMPOSSIBLE, 0),
        ([MAX], MAX, [None], FindingKind.IMPOSSIBLE, 0),
        ([1, MAX], 1, [None, None], FindingKind.IMPOSSIBLE, 1),
        ([100], None, [100], None, 0),
    ],
)
def test_d39_d47_d53_a_plain_token_is_credited_whole_or_not_at_all(
    amounts: list[int],
    moved: int | None,
    left: list[int | None],
    kind: FindingKind | None,
    suspense: int,
) -> None:
    assert _judge(amounts, moved, asset=_asset()) == (left, kind, suspense)


@pytest.mark.parametrize(
    ("amounts", "moved", "left", "kind", "suspense"),
    [
        ([100], 99, [99], None, 0),
        ([100], 100, [100], None, 0),
        ([100, 50], 148, [99, 49], None, 0),
        ([3, 3, 3], 8, [3, 3, 2], None, 0),
        ([100, 1], 1, [1, None], None, 0),
        ([100], 0, [None], FindingKind.SHORT, 0),
        ([100], 102, [100], FindingKind.SURPLUS, 2),
        ([100], None, [None], FindingKind.UNCHECKED, 0),
    ],
)
def test_d39_of_a_token_with_a_fee_the_smaller_is_credited_and_never_more(
    amounts: list[int],
    moved: int | None,
    left: list[int | None],
    kind: FindingKind | None,
    suspense: int,
) -> None:
    assert _judge(amounts, moved, asset=_asset(has_fee=True)) == (left, kind, suspense)
    if moved is not None:
        assert sum(item or 0 for item in left) <= max(0, moved)
    assert all((item or 0) <= amount for item, amount in zip(left, amounts, strict=True))


@pytest.mark.parametrize("decimals", [0, 2, 18, 24, None, MAX])
def test_d38_a_token_with_other_decimals_credits_nothing(decimals: int | None) -> None:
    found = _judge([100], 100, asset=_asset(), decimals=decimals)
    assert found == ([None], FindingKind.DECIMALS, 100)


def test_d53_without_a_supply_no_claim_above_every_real_one_counts() -> None:
    at_most = [BOOKED_MAX_MINOR]
    assert _judge(at_most, at_most[0], asset=_asset(), supply=None) == (at_most, None, 0)
    over = BOOKED_MAX_MINOR + 1
    found = _judge([over], over, asset=_asset(), supply=None)
    assert found == ([None], FindingKind.IMPOSSIBLE, 0)


def test_d45_d47_a_frame_that_no_balance_confirms_is_not_believed() -> None:
    coin = _asset(is_native=True)
    assert _judge([100], 0, asset=coin) == ([None], FindingKind.SHORT, 0)
    assert _judge([100], 130, asset=coin, gifts=30) == ([100], None, 0)
    assert _judge([100], 30, asset=coin, gifts=30) == ([None], FindingKind.SHORT, 0)


@pytest.mark.parametrize(
    ("kind", "is_native", "action"),
    [
        (FindingKind.SHORT, False, "credit"),
        (FindingKind.IMPOSSIBLE, False, "credit"),
        (FindingKind.DECIMALS, False, "all"),
        (FindingKind.SURPLUS, False, None),
        (FindingKind.UNCHECKED, False, None),
        (FindingKind.SHORT, True, None),
    ],
)
def test_d39_d53_only_a_token_that_lies_is_stopped(
    kind: FindingKind, is_native: bool, action: str | None
) -> None:
    finding = token_checks.Finding(
        kind=kind,
        asset=_asset(is_native=is_native),
        address=ADDRESS,
        claimed_minor=2,
        moved_minor=1,
        suspense_minor=1,
        withheld=(),
    )
    assert token_checks._breaker(finding) == action
