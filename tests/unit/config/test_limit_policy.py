"""The limits document: which rules apply, what is refused, and the pure judgement."""

from types import MappingProxyType
from typing import Any

import pytest

from config.assets import AssetSpec
from config.credit_policy import ReferenceSpec
from config.errors import ConfigError
from config.limit_policy import (
    NO_LIMITS,
    UNKNOWN_VALUE,
    Judgement,
    LimitPolicy,
    LimitScope,
    Window,
    judge,
    parse_limits,
)
from config.registry import load_registry
from tests.support.payout_parts import settings_of

ASSETS = MappingProxyType(dict(load_registry(settings_of("btc")).assets))
DAY_OF_PLAYER = (LimitScope.PLAYER, None, Window.DAY)


def policy(*rows: dict[str, Any], is_strict: bool = True) -> LimitPolicy:
    """These rows as version 1."""
    assets: MappingProxyType[str, AssetSpec] = ASSETS
    return parse_limits(
        {"limits": list(rows)},
        version=1,
        assets=assets,
        reference=ReferenceSpec(),
        is_strict=is_strict,
    )


def said(row: dict[str, Any], value: int | None, used: int | None = 0) -> Judgement:
    """What one row says of a value on top of what is used."""
    rules = policy(row).applying(brand="acme", asset="btc:BTC")
    return judge(rules, value_minor=value, usage={rule.bounds: used for rule in rules})


STEPS = {
    "scope": "player", "window": "24h", "approval_above": "1", "dual_above": "2", "max": "3.00",
}  # fmt: skip


@pytest.mark.parametrize(
    ("total", "approvals", "code", "is_rejected"),
    [
        (100, 0, None, False),
        (101, 1, "limit_player_24h", False),
        (200, 1, "limit_player_24h", False),
        (201, 2, "limit_player_24h", False),
        (300, 2, "limit_player_24h", False),
        (301, 0, "limit_player_24h", True),
    ],
)
@pytest.mark.parametrize("used", [0, 60])
def test_each_bound_is_within_and_one_above_is_over(
    total: int, approvals: int, code: str | None, is_rejected: bool, used: int
) -> None:
    wanted = Judgement(approvals=approvals, code=code, is_rejected=is_rejected)
    assert said(STEPS, total - used, used) == wanted


@pytest.mark.parametrize(("value", "used"), [(None, 0), (1, None)])
def test_a_limit_without_numbers_is_full_and_never_a_guess(
    value: int | None, used: int | None
) -> None:
    assert said(STEPS, value, used) == Judgement(approvals=2, code=UNKNOWN_VALUE)
    one = {"scope": "player", "window": "24h", "approval_above": "1"}
    assert said(one, value, used) == Judgement(approvals=1, code=UNKNOWN_VALUE)
    hard = {"scope": "player", "window": "24h", "max": "1"}
    assert said(hard, value, used) == Judgement(approvals=2, code=UNKNOWN_VALUE)


def test_what_is_known_to_be_too_much_is_rejected_whatever_else_is_unknown() -> None:
    rules = policy(STEPS, {"scope": "transaction", "max": "0.5"}).applying(
        brand="acme", asset="btc:BTC"
    )
    found = judge(rules, value_minor=51, usage={DAY_OF_PLAYER: None})
    assert found == Judgement(code="limit_transaction", is_rejected=True)


def test_the_strictest_of_several_limits_counts() -> None:
    rules = policy(
        {"scope": "transaction", "approval_above": "0.10"},
        {"scope": "brand", "window": "30d", "dual_above": "0.10"},
    ).applying(brand="acme", asset="btc:BTC")
    usage = {rule.bounds: 0 for rule in rules}
    assert judge(rules, value_minor=11, usage=usage).approvals == 2
    assert judge(rules, value_minor=11, usage=usage).code == "limit_brand_30d"


def test_a_brands_own_limit_takes_the_place_of_the_same_general_one_alone() -> None:
    found = policy(
        {"scope": "transaction", "max": "5"},
        {"scope": "brand", "window": "24h", "max": "6"},
        {"brand": "acme", "scope": "transaction", "max": "1"},
    )
    own = {rule.code: rule.max_minor for rule in found.applying(brand="acme", asset="btc:BTC")}
    other = {rule.code: rule.max_minor for rule in found.applying(brand="bravo", asset="btc:BTC")}
    assert own == {"limit_transaction": 100, "limit_brand_24h": 600}
    assert other == {"limit_transaction": 500, "limit_brand_24h": 600}


def test_a_limit_of_another_asset_does_not_apply() -> None:
    found = policy({"scope": "asset", "asset": "btc:BTC", "window": "24h", "max": "1"})
    assert found.applying(brand="acme", asset="eth:ETH") == ()
    assert NO_LIMITS.applying(brand="acme", asset="btc:BTC") == ()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"scope": "transaction"}, "limits[0]"),
        ({"scope": "player", "max": "1"}, "limits[0].window"),
        ({"scope": "transaction", "window": "24h", "max": "1"}, "limits[0].window"),
        ({"scope": "asset", "window": "24h", "max": "1"}, "limits[0].asset"),
        ({"scope": "brand", "asset": "btc:BTC", "window": "24h", "max": "1"}, "limits[0].asset"),
        ({"scope": "asset", "asset": "doge:DOGE", "window": "24h", "max": "1"}, "limits[0].asset"),
        ({"scope": "house", "max": "1"}, "limits[0]"),
        ({"scope": "brand", "window": "7d", "max": "1"}, "limits[0]"),
        ({"scope": "transaction", "max": "1.001"}, "limits[0].max"),
        ({"scope": "transaction", "approval_above": "2", "max": "1"}, "limits[0]"),
        ({"scope": "transaction", "dual_above": "1", "approval_above": "2"}, "limits[0]"),
        ({"scope": "transaction", "max": "1", "per": "day"}, "limits[0].per"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(row: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        policy(row)
    assert str(error.value).partition(": ")[0] == field


def test_the_same_limit_twice_is_refused() -> None:
    row = {"scope": "transaction", "max": "1"}
    with pytest.raises(ConfigError, match="two have the same"):
        policy(row, row | {"max": "2"})


def test_a_stored_limit_of_an_asset_that_is_gone_is_left_out() -> None:
    row = {"scope": "asset", "asset": "doge:DOGE", "window": "24h", "max": "1"}
    assert policy(row, is_strict=False).rules == ()
