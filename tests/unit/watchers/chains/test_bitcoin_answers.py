"""P05 and N26: what answers to a broadcast and to fee questions mean on Bitcoin-family nodes."""

from decimal import Decimal
from typing import Any

import pytest

from watchers.chain import SendOutcome
from watchers.chains.bitcoin import fee
from watchers.chains.bitcoin.errors import outcome_of, result_of
from watchers.chains.errors import NotSent, RpcError
from watchers.errors import NodeUnavailable

# Texts as measured on Knots 29.5, Core 28.1 and litecoind 0.21 (CHAINS B1, B3).
ANSWERS = [
    (-27, "Transaction outputs already in utxo set", SendOutcome.ALREADY_MINED),
    (-27, "Transaction already in block chain", SendOutcome.ALREADY_MINED),
    (-27, "transaction already in mempool", SendOutcome.ACCEPTED),
    (-26, "txn-already-in-mempool", SendOutcome.ACCEPTED),
    (-26, "txn-already-known", SendOutcome.ACCEPTED),
    (-25, "bad-txns-inputs-missingorspent", SendOutcome.CONFLICT),
    (-25, "Missing inputs", SendOutcome.CONFLICT),
    (-26, "txn-mempool-conflict", SendOutcome.CONFLICT),
    (-26, "bad-txns-spends-conflicting-tx", SendOutcome.CONFLICT),
    (-26, "bad-txns-premature-spend-of-coinbase, tried to spend", SendOutcome.CONFLICT),
    (-26, "bad-txns-premature-spend-of-pegout, tried to spend", SendOutcome.CONFLICT),
    (-26, "min relay fee not met, 0 < 110", SendOutcome.FEE_TOO_LOW),
    (-26, "mempool min fee not met, 150 < 884", SendOutcome.FEE_TOO_LOW),
    (-26, "insufficient fee, rejecting replacement aa; 0.1 < 0.2", SendOutcome.FEE_TOO_LOW),
    (-26, "too-long-mempool-chain, too many unconfirmed", SendOutcome.CHAIN_FULL),
    (-26, "package-mempool-limits, package has too many", SendOutcome.CHAIN_FULL),
    (-26, "too-large-cluster", SendOutcome.CHAIN_FULL),
    (-26, "dust", SendOutcome.INVALID),
    (-26, "dust-nonanchor", SendOutcome.INVALID),
    (-26, "mandatory-script-verify-flag-failed (Invalid)", SendOutcome.INVALID),
    (-26, "mempool-script-verify-flag-failed (Invalid)", SendOutcome.INVALID),
    (-26, "non-mandatory-script-verify-flag (Invalid)", SendOutcome.INVALID),
    (-25, "Fee exceeds maximum configured by user (e.g. -maxtxfee)", SendOutcome.INVALID),
    (-22, "TX decode failed. Make sure the tx has at least one input.", SendOutcome.INVALID),
    (-28, "Loading block index", SendOutcome.UNCLEAR),
    (-1, "something new", SendOutcome.UNCLEAR),
    (-32601, "Method not found", SendOutcome.UNCLEAR),
]


@pytest.mark.parametrize(("code", "text", "outcome"), ANSWERS)
def test_p05_broadcast_answers_are_classified_by_code_and_prefix(
    code: int, text: str, outcome: SendOutcome
) -> None:
    assert outcome_of(RpcError("sendrawtransaction", code, text)) is outcome


@pytest.mark.parametrize("error", [NodeUnavailable("time-out"), NotSent("refused")])
def test_p04_no_answer_is_unclear(error: NodeUnavailable) -> None:
    assert result_of(error).outcome is SendOutcome.UNCLEAR


INFO = {"mempoolminfee": Decimal("0.00001000"), "minrelaytxfee": Decimal("0.00001000")}


@pytest.mark.parametrize(
    ("answer", "rate"),
    [
        ({"feerate": Decimal("0.00012345"), "blocks": 2}, 12_345),
        ({"feerate": Decimal("0.000000011"), "blocks": 2}, 1_000),
        ({"errors": ["Insufficient data or no feerate found"], "blocks": 0}, 1_000),
        ({"feerate": -1, "blocks": 2}, 1_000),
        ({"feerate": 0}, 1_000),
        ({"feerate": Decimal("0.2")}, 1_000),
        ({"feerate": "0.1"}, 1_000),
        ({"feerate": True}, 1_000),
        ({"feerate": None}, 1_000),
        ({"fee": -1, "blocks": 2}, 1_000),
        (None, 1_000),
        (RpcError("estimatesmartfee", -8, "no"), 1_000),
    ],
)
def test_n26_odd_estimates_become_the_floor(answer: Any, rate: int) -> None:
    quote = fee.quote(INFO, [answer, answer, answer])
    assert quote.rates == {2: rate, 6: rate, 36: rate}
    assert quote.floor == 1_000
    assert quote.base_fee == 0


def test_a_full_mempool_raises_the_floor() -> None:
    info = INFO | {"mempoolminfee": Decimal("0.00008000")}
    quote = fee.quote(info, [{"feerate": Decimal("0.00002")}] * 3)
    assert set(quote.rates.values()) == {8_000}


def _template(*rates: int, share: float = 1.0) -> dict[str, Any]:
    """A block of equal txs at these rates (sat per kvB) that fills a share of the weight."""
    weight = int(fee.BLOCK_WEIGHT * share / len(rates))
    return {
        "weightlimit": fee.BLOCK_WEIGHT,
        "transactions": [{"fee": rate * weight // 4_000, "weight": weight} for rate in rates],
    }


def _estimates(*rates: int) -> list[Any]:
    return [{"feerate": Decimal(rate) / 10**8} for rate in rates]


def _rates(info: dict[str, Any], template: Any, *rates: int) -> list[int]:
    return list(fee.quote(INFO | info, _estimates(*rates), template).rates.values())


FULL = _template(*range(10_000, 30_000, 1_000))


def test_f1_a_full_mempool_is_seen_before_the_estimator_sees_it() -> None:
    assert _rates({"bytes": 90_000_000}, FULL, 2_000, 2_000, 2_000) == [12_000, 4_898, 2_000]


def test_f1_an_empty_mempool_ends_what_the_estimator_still_remembers() -> None:
    """The estimate lifts by a bounded share where it is urgent, and not at all where there is
    time."""
    rates = _rates({"bytes": 300_000}, _template(5_000, share=0.3), 40_000, 30_000, 20_000)

    assert rates == [3_000, 3_000, 1_000]


def test_f1_a_backlog_that_will_be_gone_before_the_target_costs_the_floor() -> None:
    assert _rates({"bytes": 2_500_000}, FULL, 50_000, 50_000, 50_000) == [36_000, 3_000, 1_000]


@pytest.mark.parametrize(
    "template",
    [
        None,
        RpcError("getblocktemplate", -9, "not connected"),
        {},
        {"transactions": [None]},
        {"transactions": [{"fee": "1", "weight": 4}]},
        {"transactions": [{"fee": -1, "weight": 4}]},
        {"transactions": [{"fee": 1, "weight": 0}]},
    ],
)
def test_f1_n26_an_odd_template_is_no_model(template: Any) -> None:
    assert _rates({"bytes": 10**9}, template, 9_000, 8_000, 7_000) == [9_000, 8_000, 7_000]


def test_f1_n26_a_mempool_of_no_size_is_no_model() -> None:
    assert _rates({"bytes": "many"}, FULL, 9_000, 8_000, 7_000) == [9_000, 8_000, 7_000]


@pytest.mark.parametrize("info", [None, {}, {"mempoolminfee": 0, "minrelaytxfee": 0}])
def test_no_floor_is_no_quote(info: Any) -> None:
    with pytest.raises(NodeUnavailable):
        fee.quote(info, [None, None, None])


def test_rates_are_rounded_up() -> None:
    assert fee.rate_sat_per_kvb(Decimal("0.000012340001")) == 1_235
