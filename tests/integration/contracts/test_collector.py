"""The collector on anvil: whoever calls whatever, tokens go to the hot account or stay (S22)."""

from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from gateway.sandbox.nodes import Anvil
from tests.support import evm
from tests.support.batch import balance
from tests.support.collecting import (
    COLLECT,
    GIVE,
    Desk,
    account,
    authorise,
    collect,
    leg,
    nonce_of,
    open_desk,
    send,
)

pytestmark = pytest.mark.node

ONE = 10**6
ETHER = 10**18
STRANGER = account("stranger")


async def deposits_of(desk: Desk, count: int, token: str, salt: str = "") -> list[LocalAccount]:
    """Accounts without coin or history that hold 5 tokens each."""
    made = [account(f"deposit {salt}{number}") for number in range(count)]
    for item in made:
        await evm.mint(desk.node, token, item.address, 5 * ONE)
    return made


async def delegated(desk: Desk, count: int, token: str, salt: str = "") -> list[LocalAccount]:
    """The same, delegating to the collector; one token of each is at the hot account."""
    made = await deposits_of(desk, count, token, salt)
    legs = [leg(item.address, ONE) for item in made]
    await collect(desk, token, legs, authorisations=[authorise(desk, item, 0) for item in made])
    return made


async def held(desk: Desk, token: str, accounts: list[LocalAccount]) -> list[int]:
    """Whole tokens."""
    return [await balance(desk.node, item.address, token=token) // ONE for item in accounts]


async def test_s22_tokens_of_many_go_to_the_hot_account_in_one_tx(anvil: Anvil) -> None:
    """The first time with authorisations, later without; each gives its very amount."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await deposits_of(desk, 3, token)
    legs = [leg(item.address, (n + 1) * ONE) for n, item in enumerate(made)]

    first = await collect(
        desk, token, legs, authorisations=[authorise(desk, item, 0) for item in made]
    )

    assert (first["status"], first["type"]) == ("0x1", "0x4")
    assert await held(desk, token, made) == [4, 3, 2]
    assert await balance(anvil, desk.hot, token=token) == 6 * ONE
    for item in made:
        code = await anvil.rpc("eth_getCode", item.address, "latest")
        assert code == "0xef0100" + desk.address[2:].lower()
        assert await nonce_of(anvil, item.address) == 1

    later = await collect(desk, token, [leg(item.address, ONE) for item in made])

    assert (later["status"], later["type"]) == ("0x1", "0x2")
    assert await held(desk, token, made) == [3, 2, 1]
    assert await balance(anvil, desk.hot, token=token) == 9 * ONE


async def test_s22_nobody_but_the_gas_account_moves_anything(anvil: Anvil) -> None:
    """A stranger, and the hot and the gas account at a deposit address itself."""
    desk = await open_desk(anvil, hot=account("hot").address)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await delegated(desk, 1, token)
    target = made[0].address
    legs = [leg(target, ONE)]
    calls: list[tuple[LocalAccount, str, str]] = [
        (STRANGER, desk.address, evm.call_data(COLLECT, token, legs)),
        (account("hot"), desk.address, evm.call_data(COLLECT, token, legs)),
        (STRANGER, desk.address, evm.call_data(GIVE, token, ONE)),
    ]
    for who in (STRANGER, account("hot"), desk.sender):
        calls += [
            (who, target, evm.call_data(GIVE, token, ONE)),
            (who, target, evm.call_data(COLLECT, token, legs)),
        ]
    for who, to, data in calls:
        await anvil.set_balance(who.address, ETHER)
        receipt = await send(anvil, who, to, chain_id=desk.chain_id, data=data)
        assert (receipt["status"], receipt["logs"]) == ("0x0", [])
    assert await held(desk, token, made) == [4]


async def test_s22_a_stolen_gas_key_reaches_the_hot_account_and_no_further(anvil: Anvil) -> None:
    """It may choose token, address and amount: what moves is at the hot account."""
    desk = await open_desk(anvil)
    listed, other = await evm.deploy(anvil, "UsdtLike"), await evm.deploy(anvil, "PlainToken")
    made = await delegated(desk, 2, listed)
    await anvil.transact(
        to=other, data=evm.call_data("mint(address,uint256)", made[0].address, 7 * ONE)
    )
    await anvil.mine()
    receiver = account("thief").address
    for token, legs in (
        (listed, [leg(made[0].address, 4 * ONE), leg(receiver, ONE)]),
        (other, [leg(made[0].address, 7 * ONE), leg(other, ONE), leg(desk.hot, ONE)]),
        (made[1].address, [leg(made[0].address, ONE)]),
    ):
        assert (await collect(desk, token, legs))["status"] == "0x1"
    assert await held(desk, listed, made) == [0, 4]
    assert await balance(anvil, desk.hot, token=listed) == 6 * ONE
    assert await balance(anvil, desk.hot, token=other) == 7 * ONE
    assert await balance(anvil, receiver, token=listed) == 0


async def test_d57_a_leg_that_cannot_move_fails_alone(anvil: Anvil) -> None:
    """Blacklisted, too much, not delegated, delegated by a number that is not the account's."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    good = await delegated(desk, 2, token)
    black, short = await delegated(desk, 2, token, "other ")
    plain, stale = await deposits_of(desk, 2, token, "plain ")
    block = evm.call_data("setBlackListed(address,bool)", black.address, True)
    await anvil.transact(to=token, data=block)
    await anvil.mine()
    legs = [
        leg(good[0].address, 4 * ONE),
        leg(black.address, ONE),
        leg(short.address, 5 * ONE),
        leg(plain.address, ONE),
        leg(stale.address, ONE),
        leg(good[1].address, 4 * ONE),
    ]

    receipt = await collect(desk, token, legs, authorisations=[authorise(desk, stale, 3)])

    assert receipt["status"] == "0x1"
    assert await held(desk, token, good) == [0, 0]
    assert await held(desk, token, [black, short, plain, stale]) == [4, 4, 5, 5]
    assert len(receipt["logs"]) == 2


async def test_d57_a_paused_token_moves_nothing_and_what_returns_false_neither(
    anvil: Anvil,
) -> None:
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await delegated(desk, 2, token)
    await anvil.transact(to=token, data=evm.call_data("setPaused(bool)", True))
    await anvil.mine()
    paused = await collect(desk, token, [leg(item.address, ONE) for item in made])
    liar = await evm.deploy(anvil, "FalseToken")
    false = await collect(desk, liar, [leg(made[0].address, ONE)])
    for receipt in (paused, false):
        assert (receipt["status"], receipt["logs"]) == ("0x1", [])
    assert await held(desk, token, made) == [4, 4]


async def test_a_gas_burner_starves_no_leg_behind_it(anvil: Anvil) -> None:
    """A leg has its cap; with too little for all of them the whole tx is undone."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    burner = await evm.deploy(anvil, "GasBurner")
    made = await delegated(desk, 2, token)
    legs = [leg(made[0].address, ONE), *[leg(burner, ONE)] * 3, leg(made[1].address, ONE)]
    for gas in range(110_000, 500_000, 30_000):
        before = await held(desk, token, made)
        receipt = await collect(desk, token, legs, gas=gas)
        moved = [1, 1] if receipt["status"] == "0x1" else [0, 0]
        after = await held(desk, token, made)
        assert [b - a for b, a in zip(before, after, strict=True)] == moved
        if moved == [1, 1]:
            return
    raise AssertionError("never enough")


async def test_a_delegated_address_takes_coin_and_calls_as_before(anvil: Anvil) -> None:
    """2,300 gas beside the tx are enough. A sender of exactly 21,000 fails, and keeps its coin."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await delegated(desk, 1, token)
    target = made[0].address
    await anvil.set_balance(STRANGER.address, 10 * ETHER)
    give: dict[str, Any] = {"chain_id": desk.chain_id, "value": ETHER}

    stipend = await send(anvil, STRANGER, target, gas=23_300, **give)
    memo = await send(anvil, STRANGER, target, data="0xdeadbeef01", **give)
    short = await send(anvil, STRANGER, target, gas=21_000, **give)
    itself = await send(anvil, STRANGER, desk.address, **give)

    statuses = [item["status"] for item in (stipend, memo, short, itself)]
    assert statuses == ["0x1", "0x1", "0x0", "0x0"]
    assert await balance(anvil, target) == 2 * ETHER
    await send(anvil, made[0], desk.hot, chain_id=desk.chain_id, value=ETHER, gas=21_000)
    assert await balance(anvil, desk.hot) >= ETHER


async def test_an_authorisation_that_a_stranger_sends_first_changes_nothing(anvil: Anvil) -> None:
    """It can only delegate to the collector: ours is skipped then, and the leg moves."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await deposits_of(desk, 1, token, "seen ")
    given = authorise(desk, made[0], 0)
    await anvil.set_balance(STRANGER.address, ETHER)
    await send(anvil, STRANGER, STRANGER.address, chain_id=desk.chain_id, authorizationList=[given])
    receipt = await collect(desk, token, [leg(made[0].address, 2 * ONE)], authorisations=[given])
    assert receipt["status"] == "0x1"
    assert await held(desk, token, made) == [3]


async def test_a_collect_that_a_reorg_undid_is_mined_again_by_the_same_bytes(anvil: Anvil) -> None:
    """Delegation and movement are one tx: both are undone, and both come again."""
    desk = await open_desk(anvil)
    token = await evm.deploy(anvil, "UsdtLike")
    made = await deposits_of(desk, 2, token, "reorg ")
    given = [authorise(desk, item, 0) for item in made]
    fields: dict[str, Any] = {
        "data": evm.call_data(COLLECT, token, [leg(item.address, 2 * ONE) for item in made]),
        "authorizationList": given,
        "nonce": await nonce_of(anvil, desk.sender.address),
        "chain_id": desk.chain_id,
    }
    mined = await send(anvil, desk.sender, desk.address, **fields)
    assert await held(desk, token, made) == [3, 3]

    await anvil.reorg(1)

    assert await held(desk, token, made) == [5, 5]
    assert [await nonce_of(anvil, item.address) for item in made] == [0, 0]
    again = await send(anvil, desk.sender, desk.address, **fields)
    assert again["transactionHash"] == mined["transactionHash"]
    assert await held(desk, token, made) == [3, 3]


async def test_a_collector_for_other_accounts_stands_elsewhere(anvil: Anvil) -> None:
    desk = await open_desk(anvil)
    other = await open_desk(anvil, hot=to_checksum_address("0x" + "77" * 20))
    assert desk.address != other.address
