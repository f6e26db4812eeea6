"""P05, N26 and builds on EVM networks: answers to a broadcast, fee quotes, unsigned payloads."""

import dataclasses
from typing import Any

import pytest
from eth_account import Account

from tests.support.sim_account import decode as decode_signed
from tests.support.sim_account import sign
from tests.unit.watchers.chains.support import evm_network
from watchers.chain import AccountPlan, DerivedAddress, Pay, SendOutcome
from watchers.chains.errors import BadPlan, NotSent, RpcError
from watchers.chains.evm import build, fee
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.errors import outcome_of
from watchers.errors import InvalidAddress, NodeUnavailable

# Texts of geth, anvil, erigon, nethermind and besu (CHAINS B4 and their sources).
ANSWERS = [
    (-32000, "already known", SendOutcome.ACCEPTED),
    (-32003, "transaction already imported", SendOutcome.ACCEPTED),
    (-32000, "Known transaction", SendOutcome.ACCEPTED),
    (-32000, "AlreadyKnown: already known", SendOutcome.ACCEPTED),
    (-32003, "nonce too low", SendOutcome.CONFLICT),
    (-32000, "nonce too low: next nonce 5, tx nonce 4", SendOutcome.CONFLICT),
    (-32003, "Insufficient funds for gas * price + value", SendOutcome.CONFLICT),
    (-32000, "insufficient funds for gas * price + value: balance 0", SendOutcome.CONFLICT),
    (-32000, "replacement transaction underpriced", SendOutcome.FEE_TOO_LOW),
    (-32000, "transaction underpriced: tip needed 1", SendOutcome.FEE_TOO_LOW),
    (-32003, "max fee per gas less than block base fee", SendOutcome.FEE_TOO_LOW),
    (-32000, "txpool is full", SendOutcome.FEE_TOO_LOW),
    (-32003, "invalid chain id for signer", SendOutcome.INVALID),
    (-32000, "intrinsic gas too low: gas 1, minimum needed 21000", SendOutcome.INVALID),
    (-32000, "exceeds block gas limit", SendOutcome.INVALID),
    (-32000, "invalid sender", SendOutcome.INVALID),
    (-32000, "rlp: expected input list for types.LegacyTx", SendOutcome.INVALID),
    (-32602, "Failed to decode transaction", SendOutcome.INVALID),
    (-32000, "something new", SendOutcome.UNCLEAR),
    (-32603, "internal error", SendOutcome.UNCLEAR),
]


@pytest.mark.parametrize(("code", "text", "outcome"), ANSWERS)
def test_p05_broadcast_answers_are_classified_by_their_words(
    code: int, text: str, outcome: SendOutcome
) -> None:
    assert outcome_of(RpcError("eth_sendRawTransaction", code, text)) is outcome


@pytest.mark.parametrize("error", [NodeUnavailable("time-out"), NotSent("refused")])
def test_p04_no_answer_is_unclear(error: NodeUnavailable) -> None:
    assert outcome_of(error) is SendOutcome.UNCLEAR


HISTORY = {
    "baseFeePerGas": ["0x1", "0x2", "0x64"],
    "gasUsedRatio": [1, 0],
    "reward": [["0x1", "0x2000000", "0x3000000"], ["0x0", "0x0", "0x0"]],
}


def test_quote_uses_blocks_with_txs_and_the_next_base_fee() -> None:
    quote = fee.quote(HISTORY, "0x9")
    assert quote.base_fee == 100
    assert quote.rates == {5: 0x3000000, 20: 0x2000000 // 3, 100: fee.PRIORITY_FLOOR_WEI}


def test_f1_a_suggestion_lifts_what_is_urgent_and_lowers_what_can_wait() -> None:
    rewards = {"reward": [["0x3b9aca00"] * 3] * 2, "gasUsedRatio": [1, 1]}

    high = fee.quote(HISTORY | rewards, hex(9 * 10**9)).rates
    low = fee.quote(HISTORY | rewards, hex(25 * 10**7)).rates

    assert high == {5: 3 * 10**9, 20: 3 * 10**9, 100: 10**9}
    assert low == {5: 10**9, 20: 5 * 10**8, 100: 25 * 10**7}


def test_empty_blocks_leave_the_suggestion() -> None:
    quote = fee.quote(HISTORY | {"gasUsedRatio": [0, 0]}, hex(10**9))
    assert set(quote.rates.values()) == {10**9}


@pytest.mark.parametrize(
    "history",
    [
        None,
        {},
        HISTORY | {"baseFeePerGas": []},
        HISTORY | {"reward": [["0x1"], []]},
        HISTORY | {"baseFeePerGas": ["0x1", None]},
        HISTORY | {"reward": None},
    ],
)
def test_n26_odd_histories_are_no_quote(history: Any) -> None:
    with pytest.raises(NodeUnavailable):
        fee.quote(history, "0x1")


TOKEN = "0x" + "ab" * 20
PARAMS = evm_network(token=TOKEN)
CODEC = EvmAddressCodec(PARAMS)
KEY = b"\x11" * 32  # a public test vector, never a real key
SENDER = Account.from_key(KEY).address
TO = "0x" + "22" * 20
PLAN = AccountPlan(
    sender=DerivedAddress(
        address=SENDER, key=SENDER.lower(), path="m/44h/60h/0h/0/0", scheme="eoa"
    ),
    nonce=7,
    payment=Pay(asset="eth:ETH", address=TO, amount_minor=10**18),
    gas_limit=50_000,
    max_fee_per_gas=30,
    max_priority_fee_per_gas=2,
)


def test_native_payload_says_exactly_the_plan() -> None:
    """Read back by another codec (eth-account)."""
    unsigned = build.build(PLAN, codec=CODEC, params=PARAMS)
    tx = decode_signed(sign(unsigned.data, KEY))
    assert (tx.chain_id, tx.nonce, tx.priority, tx.max_fee, tx.gas) == (31337, 7, 2, 30, 50_000)
    assert (tx.sender, tx.to, tx.value, tx.data) == (SENDER.lower(), TO, 10**18, b"")
    assert unsigned.data[0] == 2
    assert unsigned.fee_minor == 1_500_000
    assert unsigned.input_paths == ("m/44h/60h/0h/0/0",)


def test_token_payload_calls_transfer_of_the_listed_contract() -> None:
    plan = dataclasses.replace(PLAN, payment=Pay(asset="eth:USDT", address=TO, amount_minor=5))
    tx = decode_signed(sign(build.build(plan, codec=CODEC, params=PARAMS).data, KEY))
    assert (tx.to, tx.value) == (TOKEN, 0)
    assert tx.data.hex() == "a9059cbb" + "00" * 12 + "22" * 20 + f"{5:064x}"


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": -1},
        {"nonce": 2**64 - 1},
        {"gas_limit": 0},
        {"max_fee_per_gas": 1},
        {"max_priority_fee_per_gas": -1},
        {"payment": Pay(asset="eth:ETH", address=TO, amount_minor=0)},
        {"payment": Pay(asset="eth:ETH", address=TO, amount_minor=2**256)},
        {"payment": Pay(asset="eth:DAI", address=TO, amount_minor=1)},
    ],
)
def test_plans_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadPlan):
        build.build(dataclasses.replace(PLAN, **changes), codec=CODEC, params=PARAMS)


def test_a18_a_payment_to_a_token_contract_is_never_built() -> None:
    payment = Pay(asset="eth:ETH", address=TOKEN, amount_minor=1)
    with pytest.raises(InvalidAddress):
        build.build(dataclasses.replace(PLAN, payment=payment), codec=CODEC, params=PARAMS)


def test_gas_limits_cover_what_was_measured() -> None:
    assert build.gas_limit("eth:ETH", params=PARAMS) > 21_000
    assert build.gas_limit("eth:USDT", params=PARAMS) > 58_127
    with pytest.raises(BadPlan):
        build.gas_limit("eth:DAI", params=PARAMS)
