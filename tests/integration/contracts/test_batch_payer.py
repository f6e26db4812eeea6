"""The batch contract on anvil: a bad leg fails alone, the owner alone moves anything (P28, P30)."""

from typing import Any

import pytest

from gateway.sandbox.nodes import Anvil
from tests.support import batch, evm
from tests.support.batch import NATIVE, Leg, balance, fresh, leg, legs_of

pytestmark = pytest.mark.node

ETHER = 10**18
ONE = 10**6
GAS_PER_PAYOUT_MAX = 30_000  # issue 4, to existing holders


async def _payer(node: Anvil) -> str:
    """A contract of the node's first account that holds 5 ETH."""
    owner = (await node.accounts())[0]
    payer = await batch.deploy_for(node, owner)
    await node.send(payer, 5 * ETHER)
    await node.mine()
    return payer


async def _token(node: Anvil, payer: str) -> str:
    """A USDT-like token of which the contract holds 1,000."""
    token = await evm.deploy(node, "UsdtLike")
    await evm.mint(node, token, payer, 1_000 * ONE)
    return token


async def test_p28_native_legs_fail_alone(anvil: Anvil) -> None:
    """A refusing receiver, a burner, a bomb and a stranger that calls back: the others are paid."""
    payer = await _payer(anvil)
    bad = [await evm.deploy(anvil, name) for name in ("Reverter", "GasBurner", "Caller")]
    good = [await evm.deploy(anvil, name) for name in ("Wallet", "ReturnBomb")]
    good += [fresh(1), fresh(2)]
    targets = [good[0], bad[0], good[1], bad[1], good[2], bad[2], good[3]]

    receipt = await batch.pay(anvil, payer, [leg(to, 1_000 + i) for i, to in enumerate(targets)])

    assert receipt["status"] == "0x1"
    assert legs_of(receipt) == [Leg(i, to, 1_000 + i, to in good) for i, to in enumerate(targets)]
    for i, to in enumerate(targets):
        assert await balance(anvil, to) == (1_000 + i if to in good else 0)
    assert await balance(anvil, payer) == 5 * ETHER - sum((1_000, 1_002, 1_004, 1_006))


async def test_p30_a_gas_burner_costs_no_more_than_its_cap(anvil: Anvil) -> None:
    """Ten burners cost ten caps and their events, and nothing of the last leg's gas."""
    payer = await _payer(anvil)
    burner = await evm.deploy(anvil, "GasBurner")
    targets = [burner] * 10 + [fresh(3)]

    receipt = await batch.pay(anvil, payer, [leg(to, 7) for to in targets])

    assert [item.is_ok for item in legs_of(receipt)] == [False] * 10 + [True]
    assert int(receipt["gasUsed"], 16) < 100_000 + 11 * (30_000 + 42_000)


@pytest.mark.parametrize("gas", range(150_000, 720_000, 30_000))
async def test_too_little_gas_reverts_all_and_never_one_good_leg(anvil: Anvil, gas: int) -> None:
    """Whatever the limit, a batch behind burners is paid whole or not at all (EIP-150)."""
    payer = await _payer(anvil)
    burner = await evm.deploy(anvil, "GasBurner")
    wallet = await evm.deploy(anvil, "Wallet")
    legs = [leg(to, 9) for to in (burner, wallet, fresh(4), burner, wallet, fresh(5))]

    receipt = await batch.pay(anvil, payer, legs, gas=gas)

    if receipt["status"] == "0x1":
        assert [item.is_ok for item in legs_of(receipt)] == [False, True, True, False, True, True]
    else:
        assert receipt["logs"] == []
        assert await balance(anvil, payer) == 5 * ETHER
        assert await balance(anvil, wallet) == 0


async def test_p27_a_blacklisted_holder_of_a_token_fails_alone(anvil: Anvil) -> None:
    payer = await _payer(anvil)
    token = await evm.deploy(anvil, "OddToken")
    blocked = fresh(6)
    await anvil.transact(to=token, data=evm.call_data("mint(address,uint256)", payer, 9 * ONE))
    await anvil.transact(to=token, data=evm.call_data("setBlocked(address,bool)", blocked, True))
    targets = [fresh(7), blocked, fresh(8)]

    receipt = await batch.pay(anvil, payer, [leg(to, ONE) for to in targets], token=token)

    assert legs_of(receipt) == [Leg(i, to, ONE, to != blocked) for i, to in enumerate(targets)]
    assert [await balance(anvil, to, token=token) for to in targets] == [ONE, 0, ONE]


async def test_p29_a_false_return_fails_the_leg(anvil: Anvil) -> None:
    payer = await _payer(anvil)
    token = await evm.deploy(anvil, "FalseToken")

    receipt = await batch.pay(anvil, payer, [leg(fresh(9), ONE)], token=token)

    assert receipt["status"] == "0x1"
    assert [item.is_ok for item in legs_of(receipt)] == [False]


@pytest.mark.parametrize(
    ("answer", "is_ok"),
    [
        (b"", True),  # USDT
        ((1).to_bytes(32, "big"), True),
        ((1).to_bytes(32, "big") + b"\x01" * 500, True),
        ((0).to_bytes(32, "big"), False),
        ((2).to_bytes(32, "big"), False),
        (b"\x01", False),
        ((1).to_bytes(31, "big"), False),
    ],
    ids=["nothing", "true", "true-and-more", "false", "two", "one-byte", "31-bytes"],
)
async def test_what_a_token_returns(anvil: Anvil, answer: bytes, is_ok: bool) -> None:
    payer = await _payer(anvil)
    token = await evm.deploy(anvil, "OddToken")
    await anvil.transact(to=token, data=evm.call_data("mint(address,uint256)", payer, ONE))
    await anvil.transact(to=token, data=evm.call_data("setAnswer(bytes)", answer))
    await anvil.mine()

    receipt = await batch.pay(anvil, payer, [leg(fresh(10), 5)], token=token)

    assert [item.is_ok for item in legs_of(receipt)] == [is_ok]


async def test_too_much_for_the_balance_fails_alone(anvil: Anvil) -> None:
    payer = await _payer(anvil)
    legs = [leg(fresh(11), 4 * ETHER), leg(fresh(12), 2 * ETHER), leg(fresh(13), ETHER)]

    receipt = await batch.pay(anvil, payer, legs)

    assert [item.is_ok for item in legs_of(receipt)] == [True, False, True]
    assert await balance(anvil, payer) == 0


async def test_a_batch_id_is_paid_once(anvil: Anvil) -> None:
    payer = await _payer(anvil)
    first = await batch.pay(anvil, payer, [leg(fresh(14), 5)], batch_id=77)

    again = await batch.pay(anvil, payer, [leg(fresh(14), 5)], batch_id=77)
    other = await batch.pay(anvil, payer, [leg(fresh(14), 5)], batch_id=78)

    assert [item["status"] for item in (first, again, other)] == ["0x1", "0x0", "0x1"]
    assert await balance(anvil, fresh(14)) == 10


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        (batch.PAY, (b"\x01" * 32, NATIVE, [leg(fresh(15), 5)])),
        ("withdraw(address,uint256)", (NATIVE, 5)),
    ],
    ids=["pay", "withdraw"],
)
async def test_only_the_owner_moves_anything(
    anvil: Anvil, signature: str, values: tuple[Any, ...]
) -> None:
    payer = await _payer(anvil)
    stranger = (await anvil.accounts())[1]

    receipt = await batch.call(anvil, payer, evm.call_data(signature, *values), sender=stranger)

    assert receipt["status"] == "0x0"
    assert await balance(anvil, payer) == 5 * ETHER


async def test_an_owner_that_calls_back_is_not_let_in(anvil: Anvil) -> None:
    """The owner is an account without code; even one that runs code enters once."""
    owner = await evm.deploy(anvil, "GreedyOwner")
    payer = await batch.deploy_for(anvil, owner)
    await anvil.send(payer, ETHER)
    await anvil.transact(to=owner, data=evm.call_data("own(address)", payer))
    await anvil.mine()
    legs = [leg(owner, 1_000), leg(fresh(16), 5)]

    receipt = await batch.pay(anvil, owner, legs, batch_id=1)

    assert receipt["status"] == "0x1"
    assert legs_of(receipt)[1] == Leg(1, fresh(16), 5, True)
    data = evm.call_data("wasLetIn()")
    assert int(await anvil.rpc("eth_call", {"to": owner, "data": data}, "latest"), 16) == 0
    assert await balance(anvil, fresh(16)) == 5


async def test_withdraw_gives_to_the_owner_only_and_reverts_when_nothing_moves(
    anvil: Anvil,
) -> None:
    owner = (await anvil.accounts())[3]
    payer = await batch.deploy_for(anvil, owner)
    await anvil.send(payer, ETHER)
    token = await evm.deploy(anvil, "UsdtLike")
    await evm.mint(anvil, token, payer, 10 * ONE)
    before = await balance(anvil, owner)

    async def withdraw(asset: str, amount: int) -> dict[str, Any]:
        data = evm.call_data("withdraw(address,uint256)", asset, amount)
        return await batch.call(anvil, payer, data, sender=owner, gas=200_000)

    native, tokens = await withdraw(NATIVE, ETHER), await withdraw(token, 10 * ONE)
    refused = [await withdraw(NATIVE, 1), await withdraw(token, 1), await withdraw(fresh(17), 1)]

    assert [item["status"] for item in (native, tokens, *refused)] == ["0x1"] * 2 + ["0x0"] * 3
    paid_gas = sum(
        int(item["gasUsed"], 16) * int(item["effectiveGasPrice"], 16)
        for item in (native, tokens, *refused)
    )
    assert await balance(anvil, owner) == before + ETHER - paid_gas
    assert await balance(anvil, owner, token=token) == 10 * ONE


@pytest.mark.parametrize("case", ["no legs", "no token"])
async def test_an_empty_batch_and_a_token_without_code_are_refused(anvil: Anvil, case: str) -> None:
    payer = await _payer(anvil)
    legs = [] if case == "no legs" else [leg(fresh(18), 5)]
    token = NATIVE if case == "no legs" else fresh(19)

    receipt = await batch.pay(anvil, payer, legs, token=token)

    assert receipt["status"] == "0x0"


def test_it_can_do_nothing_else() -> None:
    """No function beside these, and no opcode that delegates, destroys or deploys."""
    build = evm.load_build("BatchPayer")
    functions = {item["name"] for item in build.abi if item["type"] == "function"}
    assert functions == {
        "pay", "withdraw", "owner", "isPaid",
        "NATIVE_LEG_GAS", "TOKEN_LEG_GAS", "LEG_RESERVE_GAS",
    }  # fmt: skip
    code = bytes.fromhex(build.deployed_bytecode[2:])
    found, at = set(), 0
    while at < len(code):
        found.add(code[at])
        at += code[at] - 0x5E if 0x60 <= code[at] <= 0x7F else 1  # PUSH1 to PUSH32 carry data
    assert found.isdisjoint({0xF0, 0xF2, 0xF4, 0xF5, 0xFF})  # CREATE CALLCODE DELEGATECALL ...


@pytest.mark.parametrize("count", [5, 20, 100])
@pytest.mark.parametrize("kind", ["native", "token"])
async def test_gas_per_payout_to_existing_holders(anvil: Anvil, kind: str, count: int) -> None:
    payer = await _payer(anvil)
    token = await _token(anvil, payer) if kind == "token" else NATIVE
    holders = [fresh(100 + i) for i in range(count)]
    first = [leg(to, 1_000_000) for to in holders]
    await batch.pay(anvil, payer, first, token=token, batch_id=1)

    receipt = await batch.pay(
        anvil, payer, [leg(to, 1_234_567) for to in holders], token=token, batch_id=2
    )

    assert all(item.is_ok for item in legs_of(receipt))
    per_payout = int(receipt["gasUsed"], 16) / count
    assert per_payout <= GAS_PER_PAYOUT_MAX
