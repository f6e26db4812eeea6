"""Before any block, on the real programs: replaced, bumped, descended from what was replaced."""

import pytest

from gateway.sandbox.nodes import Bitcoind
from tests.integration.watchers.conftest import RealBench
from tests.support.watching import Watch
from tests.support.worlds import AnvilWorld
from watchers import coins

pytestmark = [pytest.mark.postgres, pytest.mark.node]

HALF = 50_000_000
WEI = 5 * 10**17


async def test_d11_d13_a_double_spent_parent_replaces_its_child_on_bitcoind(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    """The parent pays the node's own wallet, the child pays anna out of it."""
    watch = bitcoin_watch
    anna = await watch.address("anna")
    own = await bitcoind.new_address()
    parent = await bitcoind.send(own, "1")
    await watch.follow()
    outputs = (await bitcoind.rpc("getrawtransaction", parent, True))["vout"]
    vout = next(out["n"] for out in outputs if out["scriptPubKey"].get("address") == own)
    raw = await bitcoind.rpc(
        "createrawtransaction", [{"txid": parent, "vout": vout}], {anna.address: "0.5"}
    )
    funded = await bitcoind.rpc("fundrawtransaction", raw, {"fee_rate": 10})
    signed = await bitcoind.rpc("signrawtransactionwithwallet", funded["hex"])
    await bitcoind.rpc("sendrawtransaction", signed["hex"])
    await watch.follow()
    assert (await watch.deposit()).state == "detected"

    await bitcoind.rpc("sendrawtransaction", await bitcoind.conflict(parent))
    await watch.follow()
    assert (await watch.deposit()).state == "replaced"
    await bitcoind.mine(3)
    await watch.follow()
    assert (await watch.deposit()).state == "replaced"
    assert await watch.books() == {}
    await watch.audit()


async def test_d12_a_fee_bump_on_bitcoind_is_credited_once(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    watch = bitcoin_watch
    anna = await watch.address("anna")
    first = await bitcoind.send(anna.address, "0.5")
    await watch.follow()
    bumped = await bitcoind.rpc("bumpfee", first)
    await watch.follow()
    found = {row.txid: row.state.value for row in await watch.deposits()}
    assert found == {first: "replaced", bumped["txid"]: "detected"}
    await bitcoind.mine(3)
    await watch.follow()
    assert (await watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await watch.audit()


async def test_d19_a_coinbase_waits_a_hundred_blocks_and_is_no_coin_before_on_bitcoind(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    """Playable, withdrawable and spendable at 100 confirmations; taken back with its block."""
    watch = bitcoin_watch
    anna = await watch.address("anna")
    await bitcoind.mine(1, address=anna.address)
    await bitcoind.mine(98)
    await watch.follow()
    assert (await watch.deposit()).state == "pending"
    async with watch.as_watcher.unit_of_work() as uow:
        assert await coins.spendable(uow, network="btc", limit=10) == []
    await bitcoind.mine(1)
    await watch.follow()
    deposit = await watch.deposit()
    assert (deposit.state, deposit.is_coinbase) == ("final", True)
    async with watch.as_watcher.unit_of_work() as uow:
        (coin,) = await coins.spendable(uow, network="btc", limit=10)
    assert coin.amount_minor == deposit.amount_minor
    await watch.audit()


async def test_d19_a_coinbase_whose_block_is_lost_credits_nothing_on_bitcoind(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    watch = bitcoin_watch
    anna = await watch.address("anna")
    await bitcoind.mine(1, address=anna.address)
    await watch.follow()
    assert (await watch.deposit()).state == "pending"
    await bitcoind.invalidate(1)
    for _ in range(102):
        await bitcoind.mine_exactly([])
    await watch.follow()
    assert (await watch.deposit()).state == "detected"
    assert await watch.books() == {}
    await watch.audit()


@pytest.mark.parametrize("real", ["anvil"], indirect=True)
async def test_d51_a_cancelled_nonce_on_anvil_credits_nothing(
    real: RealBench,
) -> None:
    """Seen pending, then another tx takes the sender's nonce in a block."""
    world, watch = real.world, real.watch
    assert isinstance(world, AnvilWorld)
    anvil = world._node
    anna = await watch.address("anna")
    sender = (await anvil.accounts())[0]
    txid = await anvil.send(anna.address, WEI, sender=sender)
    pending = await anvil.rpc("eth_getTransactionByHash", txid)
    await watch.follow()
    assert (await watch.deposit()).state == "detected"
    bumped = hex(2 * int(pending.get("maxFeePerGas") or pending["gasPrice"], 16))
    await anvil.rpc(
        "eth_sendTransaction",
        {
            "from": sender,
            "to": sender,
            "value": "0x0",
            "nonce": pending["nonce"],
            "gas": hex(21_000),
            "maxFeePerGas": bumped,
            "maxPriorityFeePerGas": bumped,
        },
    )
    await anvil.mine(1)
    await watch.follow()
    assert (await watch.deposit()).state == "replaced"
    assert await watch.books() == {}
    await watch.audit()
