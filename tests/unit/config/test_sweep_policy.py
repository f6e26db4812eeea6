"""The sweep policy as a document: what it gives, and what it refuses by name."""

from datetime import timedelta
from typing import Any

import pytest

from config.errors import ConfigError
from config.registry import load_registry
from config.sweep_policy import EMPTY, GasRule, SweepPolicy, SweepRule, parse_sweeps
from tests.support.payout_parts import settings_of

RULE = {"asset": "eth:USDT", "threshold": "100.5"}
GAS = {
    "network": "eth", "account_min": "0.1", "account_target": "0.5", "refill_day_max": "1",
}  # fmt: skip


def parse(content: dict[str, Any], *, is_strict: bool = True) -> SweepPolicy:
    registry = load_registry(settings_of("eth"))
    return parse_sweeps(
        content, version=3, assets=registry.assets, chains=registry.chains, is_strict=is_strict
    )


def test_a_document_is_read_in_minor_units() -> None:
    found = parse({"rules": [{**RULE, "max_age_hours": 48, "cheap_hours": True}], "gas": [GAS]})
    assert found.rule("eth:USDT") == SweepRule(
        asset="eth:USDT",
        threshold_minor=100_500_000,
        max_age=timedelta(hours=48),
        cheap_hours=True,
    )
    assert found.gas_of("eth") == GasRule(
        network="eth",
        account_min_minor=10**17,
        account_target_minor=5 * 10**17,
        refill_day_max_minor=10**18,
    )


def test_version_0_sweeps_and_fills_nothing() -> None:
    found = parse(dict(EMPTY))
    assert found.rule("eth:ETH").threshold_minor is None
    assert found.gas_of("eth").account_target_minor == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"rules": [{"asset": "eth:USDT"}]}, r"rules\[0\]: give threshold"),
        ({"rules": [{**RULE, "threshold": "1.0000001"}]}, r"rules\[0\].threshold"),
        ({"rules": [{**RULE, "asset": "eth:XXX"}]}, r"rules\[0\].asset"),
        ({"rules": [RULE, RULE]}, r"rules\[1\].asset: two rules"),
        ({"rules": [{**RULE, "fee_permille": 1_001}]}, r"fee_permille"),
        ({"rules": [{**RULE, "fee_permille": 600}]}, r"forced_fee_permille: it is at least"),
        ({"rules": [{**RULE, "fee_permille": True}]}, r"fee_permille: a whole number"),
        ({"rules": [{**RULE, "colour": "red"}]}, r"colour: unknown field"),
        ({"gas": [{**GAS, "network": "btc"}]}, r"gas\[0\].network"),
        ({"gas": [{**GAS, "account_target": "0.1"}]}, r"account_min < account_target"),
        ({"gas": [{**GAS, "refill_day_max": "0.4"}]}, r"account_min < account_target"),
        ({"gas": [{"network": "eth", "rate_max_wei": "1.5"}]}, r"rate_max_wei"),
        ({"sweeps": []}, r"policy.sweeps: unknown field"),
        ({"rules": {}, "gas": "x"}, r"gas: a list"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(content)


def test_a_stored_version_lives_on_without_an_asset_that_is_gone() -> None:
    found = parse({"rules": [{**RULE, "asset": "eth:XXX"}, RULE], "gas": []}, is_strict=False)
    assert list(found.rules) == ["eth:USDT"]
