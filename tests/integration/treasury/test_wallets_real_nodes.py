"""What the wallets show of the chain is what the nodes say at that very block."""

import json
from pathlib import Path

import pytest

from config.database import Database
from gateway.sandbox.nodes import Anvil, UtxoNode
from gateway.treasury import positions
from gateway.treasury.positions import WalletPosition
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.payouts import Payouts
from tests.support.signing import socket_signer

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def _hot(house: Payouts) -> WalletPosition:
    async with house.role.snapshot() as uow:
        found = await positions.read(uow, house.registry, has_chain=True)
    [hot] = [item for item in found if (item.role, item.asset) == ("hot", house.native)]
    return hot


async def _told(house: Payouts, node: UtxoNode | Anvil, block_hash: str, since: int) -> int:
    """What the node itself holds for the wallet at a block, without a line of our readers. Of coins
    those above height `since`: other tests paid the same addresses before."""
    roles = ["hot"] if house.is_account_based else ["hot", "change", "deposit"]
    async with house.database.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT key, address FROM chain.addresses WHERE role = ANY(:roles)", {"roles": roles}
        )
        own = rows.mappings().all()
    if isinstance(node, UtxoNode):
        scan = await node.rpc("scantxoutset", "start", [f"raw({row['key']})" for row in own])
        assert scan["bestblock"] == block_hash
        return sum(int(c["amount"] * 10**8) for c in scan["unspents"] if c["height"] > since)
    at = {"blockHash": block_hash}
    told = [await node.rpc("eth_getBalance", row["address"], at) for row in own]
    return sum(int(amount, 16) for amount in told)


async def _agrees(house: Payouts, node: UtxoNode | Anvil, since: int) -> WalletPosition:
    """The hot wallet, once it is compared with the node at the block that it names."""
    hot = await _hot(house)
    assert hot.chain is not None
    assert hot.chain.amount_minor == await _told(house, node, hot.chain.block_hash, since)
    return hot


@pytest.mark.parametrize("network", list(NODES))
async def test_balances_agree_with_the_node_at_the_block_that_they_name(
    network: str, request: pytest.FixtureRequest, on_node: OnNode, session_folder: Path
) -> None:
    """Through a whole payout: accepted, signed, in a block, final; each time to the base unit."""
    folder = session_folder / f"wallets-{network}"
    process = request.getfixturevalue(f"{NODES[network]}_process")
    async with on_node(network, folder) as house, process.connected() as node:
        since = await node.height()
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        whole = house.minor(house.native, "3")
        full = await _agrees(house, node, since)
        assert (full.ledger_minor, full.free_minor) == (whole, whole)

        row = await house.request("0.25")
        paid = house.minor(house.native, "0.25")
        accepted = await _agrees(house, node, since)
        assert (accepted.reserved_minor, accepted.free_minor) == (paid, whole - paid)

        async with socket_signer(house) as (_, signer):
            lane = await house.cycle(house.lane(signer=signer), times=2)
            signed = await _agrees(house, node, since)
            assert (signed.ledger_minor, signed.reserved_minor) == (whole, 0)
            assert paid < signed.outgoing_minor < paid + house.minor(house.native, "0.01")

            await house.mine()
            mined = await _agrees(house, node, since)
            assert mined.chain is not None
            assert mined.ledger_minor == whole
            assert mined.ledger_minor - mined.outgoing_minor == mined.chain.amount_minor

            for _ in range(4):
                await house.mine()
                await house.cycle(lane)
        assert await house.states(row) == ["completed"]
        done = await _agrees(house, node, since)
        assert done.chain is not None
        assert done.outgoing_minor == 0
        assert done.ledger_minor == done.chain.amount_minor == done.free_minor < whole - paid


async def test_two_payouts_of_one_family_leave_once(btc: Payouts) -> None:
    """A replacement counts in place of what it replaces, at its own fee."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.request("0.25")
    await btc.cycle(times=2)
    once = await _hot(btc)
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.outgoing (id, network, purpose, family_id, state, unsigned, raw, "
            "txid, payments, fee_cap_minor, family_number, replaces_id, created_at, signed_at, "
            "state_at) SELECT gen_random_uuid(), network, purpose, family_id, 'signed', unsigned, "
            "raw, 'ab', payments, fee_cap_minor + 1000, 2, id, created_at, signed_at, state_at "
            "FROM chain.outgoing"
        )
    assert (await _hot(btc)).outgoing_minor == once.outgoing_minor + 1_000


async def test_an_empty_house_shows_its_hot_wallets_and_names_no_block_it_has_not_seen(
    test_database: TestDatabase, payouts_role: Database, eth: Payouts
) -> None:
    async with payouts_role.snapshot() as uow:
        found = await positions.read(uow, eth.registry, has_chain=True)
    assert {(item.wallet, item.ledger_minor) for item in found} == {("eth/hot", 0)}
    native, token = found
    assert (native.asset, token.asset, token.chain) == ("eth:ETH", "eth:USDT", None)
    assert native.chain is not None
    assert native.chain.amount_minor == 0


async def test_what_a_sweep_and_a_collect_move_leaves_deposits_and_comes_to_hot(
    eth: Payouts,
) -> None:
    """Signed and in no block: one tx of a deposit address, one of a gas account over many."""
    async with eth.database.unit_of_work() as uow:
        rows = await uow.execute("SELECT role, key FROM chain.addresses ORDER BY address_index")
        keys = {row.role: row.key for row in rows}
        insert = (
            "INSERT INTO chain.outgoing (id, network, purpose, family_id, state, unsigned, raw, "
            "txid, sender_key, nonce, payments, fee_cap_minor, created_at, signed_at, state_at) "
            "VALUES (gen_random_uuid(), 'eth', :purpose, gen_random_uuid(), 'signed', 'a', 'b', "
            ":purpose, :sender, 0, CAST(:payments AS jsonb), 7, :at, :at, :at)"
        )
        hot = {"asset": "eth:ETH", "address": keys["hot"], "key": keys["hot"]}
        for purpose, sender, payment in (
            ("sweep", "deposit", {**hot, "amount_minor": "100"}),
            ("collect", "gas", {**hot, "amount_minor": "30", "from_key": keys["deposit"]}),
        ):
            await uow.execute(
                insert,
                {
                    "purpose": purpose,
                    "sender": keys[sender],
                    "payments": json.dumps([payment]),
                    "at": eth.clock.now(),
                },
            )
    async with eth.role.snapshot() as uow:
        found = await positions.read(uow, eth.registry)
    native = {item.wallet: item for item in found if item.asset == "eth:ETH"}
    assert {
        wallet: (item.outgoing_minor, item.incoming_minor) for wallet, item in native.items()
    } == {"eth/deposit/acme": (137, 0), "eth/gas": (7, 0), "eth/hot": (0, 130)}
