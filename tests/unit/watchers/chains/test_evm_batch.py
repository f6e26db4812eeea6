"""P28, P29: what a leg's event and a token's log say together; what is never built."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode

from tests.unit.watchers.chains.support import evm_network
from watchers.chain import BatchEvidence, BatchPlan, DerivedAddress, Pay
from watchers.chains.errors import BadPlan
from watchers.chains.evm import batch, build, decode, trace
from watchers.chains.evm.address import EvmAddressCodec
from watchers.errors import InvalidAddress, NodeUnavailable

TOKEN = "0x" + "aa" * 20
PAYER = "0x" + "cc" * 20
OWNER = "0x" + "dd" * 20
HOLDER = "0x" + "11" * 20
OTHER = "0x" + "22" * 20
BLOCK = "0x" + "01" * 32
TXID = "0x" + "02" * 32
PARAMS = replace(evm_network(token=TOKEN), batch_contract=PAYER)
NATIVE = "0x" + "00" * 20


def _word(address: str) -> str:
    return "0x" + "00" * 12 + address[2:]


def _log(address: str, topics: list[str], data: bytes) -> dict[str, Any]:
    return {
        "address": address,
        "topics": topics,
        "data": "0x" + data.hex(),
        "blockHash": BLOCK,
        "transactionHash": TXID,
        "removed": False,
    }


def _begin(token: str, *, source: str = PAYER) -> dict[str, Any]:
    topics = [batch.BATCH_TOPIC, "0x" + "07" * 32, _word(token)]
    return _log(source, topics, (1).to_bytes(32, "big"))


def _leg(index: int, amount: int, *, to: str = HOLDER, is_ok: bool = True) -> dict[str, Any]:
    data = encode(["uint256", "address", "uint256", "bool"], [index, to, amount, is_ok])
    return _log(PAYER, [batch.LEG_TOPIC, "0x" + "07" * 32], data)


def _moved(amount: int, *, to: str = HOLDER, token: str = TOKEN, source: str = PAYER) -> Any:
    topics = [decode.TRANSFER_TOPIC, _word(source), _word(to)]
    return _log(token, topics, amount.to_bytes(32, "big"))


def _block(*logs: dict[str, Any], params: Any = PARAMS, status: str = "0x1") -> Any:
    tx = {
        "hash": TXID, "blockHash": BLOCK, "from": OWNER, "to": PAYER, "value": "0x0",
        "nonce": "0x3", "gasPrice": "0x5", "input": "0x",
    }  # fmt: skip
    value = {
        "number": "0x10", "hash": BLOCK, "parentHash": "0x" + "00" * 32,
        "timestamp": "0x65000000", "transactions": [tx],
    }  # fmt: skip
    receipt = {
        "transactionHash": TXID, "blockHash": BLOCK, "status": status, "gasUsed": "0xffff",
        "effectiveGasPrice": "0x2", "logs": list(logs),
    }  # fmt: skip
    return decode.block(value, [receipt], block_hash=BLOCK, params=params)


def _evidence(*logs: dict[str, Any], **changes: Any) -> BatchEvidence | None:
    found: BatchEvidence | None = _block(*logs, **changes).sends[0].batch
    return found


def test_p29_a_leg_is_paid_by_its_event_and_exactly_its_log() -> None:
    found = _evidence(
        _begin(TOKEN), _moved(5), _leg(0, 5), _moved(6, to=OTHER), _leg(1, 6, to=OTHER)
    )
    assert found is not None
    assert [leg.is_paid for leg in found.legs] == [True, True]
    assert found.moved == (("eth:USDT", HOLDER, 5), ("eth:USDT", OTHER, 6))


@pytest.mark.parametrize(
    ("logs", "moved"),
    [
        ([_leg(0, 5)], 0),
        ([_moved(4), _leg(0, 5)], 1),
        ([_moved(5, to=OTHER), _leg(0, 5)], 1),
        ([_moved(5), _moved(1, to=OTHER), _leg(0, 5)], 2),
        ([_moved(5), _leg(0, 5, is_ok=False)], 1),
        ([_moved(5, source=OTHER), _leg(0, 5)], 0),
        ([_leg(0, 5), _moved(5)], 1),
    ],
    ids=["no log", "less", "to another", "a fee beside", "not ok", "of another", "late"],
)
def test_p29_any_other_movement_is_told_and_pays_nobody(
    logs: list[dict[str, Any]], moved: int
) -> None:
    found = _evidence(_begin(TOKEN), *logs)
    assert found is not None
    assert [leg.is_paid for leg in found.legs] == [False]
    assert len(found.moved) == moved


def test_a_native_leg_is_paid_by_its_event() -> None:
    found = _evidence(_begin(NATIVE), _leg(0, 5), _leg(1, 6, is_ok=False))
    assert found is not None
    assert [(leg.asset, leg.is_paid) for leg in found.legs] == [
        ("eth:ETH", True),
        ("eth:ETH", False),
    ]
    assert found.moved == (("eth:ETH", HOLDER, 5),)


def test_a_token_that_is_no_longer_listed_shows_nothing() -> None:
    found = _evidence(_begin(OTHER), _moved(5, token=OTHER), _leg(0, 5))
    assert found is not None
    assert [(leg.asset, leg.is_paid) for leg in found.legs] == [("", False)]


def test_a_strangers_contract_with_our_events_is_nothing() -> None:
    logs = [_begin(NATIVE, source=OTHER), {**_leg(0, 5), "address": OTHER}]
    assert _evidence(*logs) is None


def test_without_a_contract_or_success_there_is_no_batch() -> None:
    assert _evidence(_begin(NATIVE), _leg(0, 5), params=evm_network(token=TOKEN)) is None
    assert _evidence(status="0x0") is None


def test_a_withdrawal_leaves_the_contract_for_its_owner() -> None:
    topics = [batch.WITHDRAWN_TOPIC, _word(NATIVE)]
    found = _evidence(_log(PAYER, topics, (9).to_bytes(32, "big")))
    assert found == BatchEvidence(payer_key=PAYER, legs=(), moved=(("eth:ETH", OWNER, 9),))


def _frame(path: tuple[int, ...], to: str, amount: int, *, failed: bool = False) -> trace.Frame:
    return trace.Frame(
        txid=TXID, path=path, kind="call", to_key=to, amount_minor=amount, has_failed=failed
    )


@pytest.mark.parametrize(
    "frames",
    [
        [_frame((), PAYER, 0)],
        [_frame((), PAYER, 0), _frame((0,), HOLDER, 4)],
        [_frame((), PAYER, 0), _frame((0,), HOLDER, 5, failed=True)],
    ],
    ids=["none", "other amount", "failed"],
)
def test_frames_that_contradict_a_proven_leg_are_a_lie(frames: list[trace.Frame]) -> None:
    block = _block(_begin(NATIVE), _leg(0, 5))
    with pytest.raises(NodeUnavailable, match="a leg is missing"):
        trace.with_calls(block, frames, succeeded=frozenset({TXID}), params=PARAMS)


def test_a_node_that_does_not_trace_leaves_the_legs_as_they_are() -> None:
    block = _block(_begin(NATIVE), _leg(0, 5))
    found = trace.with_calls(block, [], succeeded=frozenset({TXID}), params=PARAMS)
    assert found.traces_incomplete
    assert found.sends == block.sends


def _plan(*payments: tuple[str, str, int], batch_id: bytes = bytes(32)) -> BatchPlan:
    return BatchPlan(
        sender=DerivedAddress(address=OWNER, key=OWNER, path="m", scheme="eoa"),
        nonce=1,
        batch_id=batch_id,
        payments=tuple(
            Pay(asset=asset, address=address, amount_minor=amount)
            for asset, address, amount in payments
        ),
        gas_limit=100_000,
        max_fee_per_gas=2,
        max_priority_fee_per_gas=1,
    )


ETH = ("eth:ETH", HOLDER, 5)
USDT = ("eth:USDT", HOLDER, 5)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (_plan(), "1 to 100"),
        (_plan(*[ETH] * 101), "1 to 100"),
        (_plan(ETH, ETH, batch_id=b"\x01"), "32 bytes"),
        (_plan(ETH, USDT), "one asset"),
        (_plan(ETH, ("eth:ETH", HOLDER, 0)), "amount"),
        (_plan(ETH, ("eth:ETH", HOLDER, 2**96)), "amount"),
        (_plan(("eth:XYZ", HOLDER, 1), ("eth:XYZ", HOLDER, 1)), "not listed"),
    ],
    ids=["none", "many", "id", "assets", "zero", "too much", "unlisted"],
)
def test_what_is_no_batch_is_not_built(plan: BatchPlan, reason: str) -> None:
    with pytest.raises(BadPlan, match=reason):
        build.build(plan, codec=EvmAddressCodec(PARAMS), params=PARAMS)


@pytest.mark.parametrize("address", [TOKEN, PAYER, NATIVE])
def test_a18_contracts_and_nobody_are_no_legs(address: str) -> None:
    plan = _plan(ETH, ("eth:ETH", address, 5))
    with pytest.raises(InvalidAddress):
        build.build(plan, codec=EvmAddressCodec(PARAMS), params=PARAMS)


def test_a_network_without_a_contract_builds_no_batch() -> None:
    params = evm_network(token=TOKEN)
    with pytest.raises(BadPlan, match="no batch contract"):
        build.build(_plan(ETH, ETH), codec=EvmAddressCodec(params), params=params)
