"""D33-D37, D41, D44, D52, D54, D55, D60: credit from evidence of success, and from nothing else."""

import random
from typing import Any

import pytest

from tests.unit.watchers.chains.support import evm_network
from watchers.chains.evm import decode
from watchers.errors import NodeUnavailable

TOKEN = "0x" + "aa" * 20
FAKE = "0x" + "bb" * 20
US = "0x" + "11" * 20
PLAYER = "0x" + "22" * 20
BLOCK = "0x" + "01" * 32
TXID = "0x" + "02" * 32
PARAMS = evm_network(token=TOKEN)
ETHER = 10**18


def _topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:]


def _log(amount: int = 5_000_000, *, to: str = US, **changes: Any) -> dict[str, Any]:
    log = {
        "address": TOKEN,
        "topics": [decode.TRANSFER_TOPIC, _topic(PLAYER), _topic(to)],
        "data": "0x" + f"{amount:064x}",
        "blockHash": BLOCK,
        "transactionHash": TXID,
        "logIndex": "0x7",
        "removed": False,
    }
    return log | changes


def _tx(**changes: Any) -> dict[str, Any]:
    tx = {
        "hash": TXID,
        "blockHash": BLOCK,
        "from": PLAYER,
        "to": US,
        "value": hex(ETHER),
        "nonce": "0x3",
        "gasPrice": "0x5",
        "input": "0x",
    }
    return tx | changes


def _receipt(*logs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    receipt = {
        "transactionHash": TXID,
        "blockHash": BLOCK,
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x2",
        "logs": list(logs),
    }
    return receipt | changes


def _block(tx: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": "0x10",
        "hash": BLOCK,
        "parentHash": "0x" + "00" * 32,
        "timestamp": "0x65000000",
        "transactions": [tx],
    }


def _decode(tx: dict[str, Any], receipt: Any, *, params: Any = PARAMS) -> Any:
    return decode.block(_block(tx), [receipt], block_hash=BLOCK, params=params)


def test_d33_value_of_a_successful_tx_is_a_transfer() -> None:
    block = _decode(_tx(), _receipt())
    [transfer] = block.transfers
    assert (transfer.position, transfer.asset, transfer.to_key) == ("value", "eth:ETH", US)
    assert transfer.amount_minor == ETHER
    [send] = block.sends
    assert (send.sender_key, send.nonce, send.is_success) == (PLAYER, 3, True)
    assert send.fee_minor == 42_000
    assert send.transfers_out == (("eth:ETH", US, ETHER),)


def test_d33_value_of_a_failed_tx_is_nothing() -> None:
    block = _decode(_tx(), _receipt(status="0x0"))
    assert block.transfers == ()
    assert not block.sends[0].is_success
    assert block.sends[0].transfers_out == ()
    assert block.sends[0].fee_minor == 42_000


def test_d34_a_failed_token_call_is_nothing_even_if_logs_are_claimed() -> None:
    calldata = "0xa9059cbb" + _topic(US)[2:] + f"{5:064x}"
    tx = _tx(to=TOKEN, value="0x0", input=calldata)
    assert _decode(tx, _receipt(status="0x0")).transfers == ()
    assert _decode(tx, _receipt(_log(), status="0x0")).transfers == ()


def test_d35_success_without_a_log_is_nothing() -> None:
    calldata = "0xa9059cbb" + _topic(US)[2:] + f"{5:064x}"
    assert _decode(_tx(to=TOKEN, value="0x0", input=calldata), _receipt()).transfers == ()


def test_d36_d73_a_log_of_an_unlisted_contract_is_only_that_contracts_asset() -> None:
    """Whatever it calls itself: the id holds network and contract, which no registry lists."""
    block = _decode(_tx(value="0x0"), _receipt(_log(address=FAKE.upper().replace("0X", "0x"))))
    [transfer] = block.transfers
    assert (transfer.asset, transfer.position) == (f"eth:{FAKE}", "log:0")
    assert block.sends[0].transfers_out == ()


def test_d37_the_same_contract_on_another_network_is_not_that_asset() -> None:
    other = evm_network(token=FAKE)
    [transfer] = _decode(_tx(value="0x0"), _receipt(_log()), params=other).transfers
    assert transfer.asset == f"eth:{TOKEN}"


def test_d41_zero_value_transfers_are_nothing() -> None:
    assert _decode(_tx(value="0x0"), _receipt(_log(0))).transfers == ()


def test_d43_the_log_counts_wherever_the_call_came_from() -> None:
    tx = _tx(to="0x" + "77" * 20, value="0x0")
    [transfer] = _decode(tx, _receipt(_log())).transfers
    assert (transfer.asset, transfer.to_key, transfer.amount_minor) == ("eth:USDT", US, 5_000_000)


def test_d44_five_logs_to_one_address_are_five_transfers_by_ordinal() -> None:
    logs = [_log(n + 1) for n in range(5)]
    logs.insert(2, _log(9, address=FAKE))
    found = [
        item
        for item in _decode(_tx(value="0x0"), _receipt(*logs)).transfers
        if item.asset == "eth:USDT"
    ]
    assert [(t.position, t.amount_minor) for t in found] == [
        ("log:0", 1),
        ("log:1", 2),
        ("log:3", 3),
        ("log:4", 4),
        ("log:5", 5),
    ]


def test_d50_the_position_does_not_depend_on_the_block_wide_index() -> None:
    first = _decode(_tx(value="0x0"), _receipt(_log(logIndex="0x7"))).transfers
    again = _decode(_tx(value="0x0"), _receipt(_log(logIndex="0x63"))).transfers
    assert first == again


def test_d53_the_largest_value_is_read_exactly() -> None:
    [transfer] = _decode(_tx(value="0x0"), _receipt(_log(2**256 - 1))).transfers
    assert transfer.amount_minor == 2**256 - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"topics": [decode.TRANSFER_TOPIC, _topic(PLAYER), _topic(US), "0x" + "00" * 32]},
        {"topics": [decode.TRANSFER_TOPIC, _topic(PLAYER)]},
        {"topics": [decode.TRANSFER_TOPIC]},
        {"topics": []},
        {"topics": ["0x" + "00" * 32, _topic(PLAYER), _topic(US)]},
        {"topics": [decode.TRANSFER_TOPIC, _topic(PLAYER), "0x" + "01" * 12 + US[2:]]},
        {"topics": [decode.TRANSFER_TOPIC, _topic(PLAYER), US]},
        {"topics": [decode.TRANSFER_TOPIC, _topic(PLAYER), 7]},
        {"topics": None},
        {"data": "0x"},
        {"data": "0x" + "00" * 31},
        {"data": "0x" + "00" * 64},
        {"data": "0x" + "zz" * 32},
        {"data": None},
        {"removed": True},
    ],
)
def test_d54_logs_that_are_no_erc20_transfer_are_ignored(changes: dict[str, Any]) -> None:
    assert _decode(_tx(value="0x0"), _receipt(_log(**changes))).transfers == ()


def test_token_sent_by_the_sender_is_evidence_of_what_left() -> None:
    [send] = _decode(_tx(to=TOKEN, value="0x0"), _receipt(_log())).sends
    assert send.transfers_out == (("eth:USDT", US, 5_000_000),)
    foreign = _log()
    foreign["topics"][1] = _topic(FAKE)
    [send] = _decode(_tx(to=TOKEN, value="0x0"), _receipt(foreign)).sends
    assert send.transfers_out == ()


@pytest.mark.parametrize(
    "receipt",
    [
        None,
        {},
        _receipt(blockHash="0x" + "09" * 32),
        _receipt(transactionHash="0x" + "09" * 32),
        _receipt(status=None),
        _receipt(status="0x2"),
        _receipt(logs=None),
        _receipt(gasUsed=None),
        _receipt(_log(blockHash="0x" + "09" * 32)),
        _receipt(_log(transactionHash="0x" + "09" * 32)),
    ],
)
def test_d52_n10_a_receipt_that_is_not_whole_refuses_the_block(receipt: Any) -> None:
    with pytest.raises(NodeUnavailable):
        _decode(_tx(), receipt)


def test_n10_a_missing_receipt_refuses_the_block() -> None:
    with pytest.raises(NodeUnavailable):
        decode.block(_block(_tx()), [], block_hash=BLOCK, params=PARAMS)


def test_n11_no_block_is_not_an_empty_block() -> None:
    with pytest.raises(NodeUnavailable):
        decode.block(None, [], block_hash=BLOCK, params=PARAMS)
    with pytest.raises(NodeUnavailable):
        decode.block(_block(_tx()) | {"hash": TXID}, [], block_hash=BLOCK, params=PARAMS)
    with pytest.raises(NodeUnavailable):
        decode.block(_block(_tx(blockHash=TXID)), [], block_hash=BLOCK, params=PARAMS)


def test_d60_unusual_txs_are_read_by_rule() -> None:
    """A contract creation, a tx without signature fields, an OP-stack fee, a blob fee."""
    assert _decode(_tx(to=None), _receipt()).transfers == ()
    deposit = _tx(type="0x7e", mint="0x1")
    del deposit["gasPrice"]
    block = _decode(deposit, _receipt(l1Fee="0x10", blobGasUsed="0x2", blobGasPrice="0x3"))
    assert block.sends[0].fee_minor == 42_000 + 16 + 6
    assert len(block.transfers) == 1


@pytest.mark.parametrize("kind", ["0x7e", "0x64", "0x65", "0x66", "0x68", "0x69", "0x6a", "0xff"])
def test_d60_a_tx_of_any_type_counts_by_its_receipt_alone(kind: str) -> None:
    """OP-stack deposits and Arbitrum's own types have no signature, gas price or nonce rules."""
    tx = _tx(type=kind, r=None, s=None, v=None, sourceHash="0x" + "05" * 32, gasPrice="0x0")
    assert [item.position for item in _decode(tx, _receipt()).transfers] == ["value"]
    assert _decode(tx, _receipt(status="0x0")).transfers == ()
    assert _decode(tx, _receipt(_log(), effectiveGasPrice="0x0")).sends[0].fee_minor == 0


def test_d49_a_log_that_says_removed_is_nothing() -> None:
    """No log is ever pushed to us: blocks are read by hash, and a flag of a lost one is refused."""
    assert _decode(_tx(value="0x0"), _receipt(_log(removed=True))).transfers == ()
    [kept] = _decode(_tx(value="0x0"), _receipt(_log(removed=True), _log(7))).transfers
    assert (kept.position, kept.amount_minor) == ("log:1", 7)


def test_d47_beacon_withdrawals_are_gifts_in_wei() -> None:
    rows = [
        {"index": "0x9", "validatorIndex": "0x1", "address": US.upper().replace("0X", "0x"),
         "amount": "0x3"},
        {"index": "0xa", "validatorIndex": "0x1", "address": US, "amount": "0x0"},
    ]  # fmt: skip
    raw = _block(_tx(value="0x0")) | {"withdrawals": rows}
    block = decode.block(raw, [_receipt()], block_hash=BLOCK, params=PARAMS)
    assert block.transfers == ()
    [gift] = block.gifts
    assert (gift.txid, gift.position, gift.to_key) == (BLOCK, "withdrawal:9", US)
    assert gift.amount_minor == 3 * 10**9
    with pytest.raises(NodeUnavailable):
        decode.block(raw | {"withdrawals": [{}]}, [_receipt()], block_hash=BLOCK, params=PARAMS)


GARBAGE: list[Any] = [
    None, True, False, 0, 1, -1, 10**80, "", "0x", "0x0", "0x00", "0x1", "0X1", "0xzz", "1", " 0x1",
    "0x" + "f" * 64, "0x" + "f" * 65, "\u0661", "\x00", [], [[]], [None], {}, {"0x": "0x"},
    decode.TRANSFER_TOPIC, [decode.TRANSFER_TOPIC] * 3, [decode.TRANSFER_TOPIC] * 4, FAKE, [FAKE],
    _topic(US), [_topic(US)], [7, 7, 7], "0x" + "00" * 31, "0x" + "00" * 33,
]  # fmt: skip


def _spoiled(value: Any, chance: random.Random) -> Any:
    """A copy with one random place, at any depth, replaced by garbage, left out or doubled."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return value | {key: _spoiled(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.6:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return [*value, value[at]]
        return [*value[:at], _spoiled(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice("0f\u0661 xZ") + value[at + chance.randrange(2) :]
    return chance.choice(GARBAGE)


def test_d55_ten_thousand_malformed_logs_never_crash_and_never_credit_more(seed: int) -> None:
    """Refused with the block, or read by rule: never another asset, position or a second credit."""
    chance, refused = random.Random(seed), 0
    for _ in range(10_000):
        log = _spoiled(_log(), chance)
        try:
            found = _decode(_tx(value="0x0"), _receipt(log)).transfers
        except NodeUnavailable:
            refused += 1
            continue
        for transfer in found:
            contract = log["address"].lower()
            listed = "eth:USDT" if contract == TOKEN else f"eth:{contract}"
            assert (transfer.asset, transfer.position) == (listed, "log:0")
            assert log["topics"][0].lower() == decode.TRANSFER_TOPIC
            assert len(log["topics"]) == 3
            assert transfer.amount_minor == int(log["data"], 16)
            assert transfer.to_key == "0x" + log["topics"][2].lower()[-40:]
    assert 1_000 < refused < 9_000  # both roads were taken


def test_d55_ten_thousand_malformed_receipts_and_txs_never_crash(seed: int) -> None:
    chance, refused = random.Random(seed), 0
    for number in range(10_000):
        tx, receipt = _tx(), _receipt(_log())
        if number % 2:
            tx = _spoiled(tx, chance)
        else:
            receipt = _spoiled(receipt, chance)
        try:
            _decode(tx, receipt)
        except NodeUnavailable:
            refused += 1
    assert 1_000 < refused < 9_900


def test_mempool_shows_native_value_only() -> None:
    seen = decode.mempool_tx(_tx(blockHash=None), params=PARAMS)
    assert [transfer.position for transfer in seen.transfers] == ["value"]
    assert decode.mempool_tx(_tx(to=TOKEN, value="0x0"), params=PARAMS).transfers == ()
