"""What nodes say of unconfirmed txs never decides money: the block's truth takes its place."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.simchain import (
    SimAccount,
    SimAccountReader,
    SimUtxo,
    SimUtxoReader,
    account_chain,
    utxo_chain,
)
from watchers import eta
from watchers.chain import MempoolTx, Transfer
from watchers.loops import FeeLoop

pytestmark = pytest.mark.postgres

HALF = 50_000_000
ETHER = 10**18

Tale = Callable[[MempoolTx], MempoolTx]


class TellsTales(SimUtxoReader):
    """True blocks, and a mempool as the tale has it."""

    def __init__(self, world: SimUtxo, tale: Tale) -> None:
        super().__init__(world)
        self._tale = tale

    async def mempool(self) -> Sequence[MempoolTx]:
        return [self._tale(tx) for tx in await super().mempool()]


class TellsAccountTales(SimAccountReader):
    """The same over accounts."""

    def __init__(self, world: SimAccount, tale: Tale) -> None:
        super().__init__(world)
        self._tale = tale

    async def mempool(self) -> Sequence[MempoolTx]:
        return [self._tale(tx) for tx in await super().mempool()]


def told_by(utxo: UtxoBench, tale: Tale) -> None:
    """From now on the watcher hears of the mempool by the tale."""
    chain = utxo_chain(utxo.sim, reader=TellsTales(utxo.sim, tale))
    utxo.watch.follower = utxo.watch.new_follower("first", chain=chain)


def account_told_by(account: AccountBench, tale: Tale) -> None:
    """The same over accounts."""
    chain = account_chain(account.sim, reader=TellsAccountTales(account.sim, tale))
    account.watch.follower = account.watch.new_follower("first", chain=chain)


def changed(**changes: object) -> Tale:
    """The first transfer of every tx with these changes."""

    def tale(tx: MempoolTx) -> MempoolTx:
        first, *rest = tx.transfers
        return replace(tx, transfers=(replace(first, **changes), *rest))  # type: ignore[arg-type]

    return tale


async def of_players(bench: UtxoBench | AccountBench) -> dict[tuple[str, int], str]:
    """State by (player, amount)."""
    found = await bench.watch.deposits()
    return {(row.player_id, row.amount_minor): row.state.value for row in found}


async def told(bench: UtxoBench | AccountBench) -> list[tuple[str, str, str]]:
    """(type, player, amount) of every event of a deposit, in order."""
    async with bench.watch.as_watcher.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT type, snapshot->>'player_id' AS player, snapshot->>'amount' AS amount "
            "FROM ledger.events WHERE object_kind = 'deposit' ORDER BY position"
        )
        return [(row.type, row.player, row.amount) for row in rows]


@pytest.mark.parametrize("factor", [100, 2], ids=["another tier", "the same tier"])
async def test_n06_an_inflated_amount_of_the_mempool_is_not_credited(
    utxo: UtxoBench, factor: int
) -> None:
    """The sum and its tier are the block's: half a coin needs one confirmation."""
    anna = await utxo.watch.address("anna")
    told_by(utxo, changed(amount_minor=factor * HALF))
    utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", factor * HALF): "detected"}
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", HALF): "provisional"}
    utxo.sim.mine(2)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", HALF): "final"}
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    assert await told(utxo) == [
        ("deposit.detected", "anna", str(factor * HALF)),
        ("deposit.pending", "anna", str(HALF)),
        ("deposit.provisional", "anna", str(HALF)),
        ("deposit.final", "anna", str(HALF)),
    ]
    await utxo.watch.audit()


async def test_n06_an_amount_that_the_mempool_made_small_is_credited_in_full(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    told_by(utxo, changed(amount_minor=1))
    utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", HALF): "final"}
    await utxo.watch.audit()


@pytest.mark.parametrize("brand", ["acme", "zest"])
async def test_n05_a_receiver_that_the_mempool_made_up_gets_nothing(
    utxo: UtxoBench, brand: str
) -> None:
    """Who was told of it hears that it is replaced; then it is the deposit of who was paid."""
    anna = await utxo.watch.address("anna")
    thief = await utxo.watch.address("thief", brand=brand)
    told_by(utxo, changed(to_key=thief.key))
    utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    assert await of_players(utxo) == {("thief", HALF): "detected"}
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", HALF): "final"}
    assert (await utxo.watch.deposit()).brand == "acme"
    assert [item[:2] for item in await told(utxo)] == [
        ("deposit.detected", "thief"),
        ("deposit.replaced", "thief"),
        ("deposit.pending", "anna"),
        ("deposit.provisional", "anna"),
        ("deposit.final", "anna"),
    ]
    assert await utxo.watch.books() == {
        "brand:acme:clearing:btc:BTC": HALF,
        "custody:btc/hot:btc:BTC": HALF,
    }
    await utxo.watch.audit()


async def test_n05_a_reorg_does_not_bring_the_made_up_receiver_back(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    thief = await utxo.watch.address("thief")
    told_by(utxo, changed(to_key=thief.key))
    utxo.sim.pay([(anna.address, 4 * HALF)])
    await utxo.watch.follow()
    utxo.sim.mine(1)
    await utxo.watch.follow()
    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    utxo.sim.mine(6)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", 4 * HALF): "final"}
    await utxo.watch.audit()


async def test_n05_an_output_that_the_mempool_made_up_is_not_credited(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    thief = await utxo.watch.address("thief")

    def longer(tx: MempoolTx) -> MempoolTx:
        more = replace(tx.transfers[0], position="out:7", to_key=thief.key, amount_minor=7 * HALF)
        return replace(tx, transfers=(*tx.transfers, more))

    told_by(utxo, longer)
    utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    assert ("thief", 7 * HALF) in await of_players(utxo)
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await of_players(utxo) == {("anna", HALF): "final", ("thief", 7 * HALF): "replaced"}
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


async def test_r10_what_a_node_says_of_fees_moves_the_eta_alone(utxo: UtxoBench) -> None:
    """The one that pays more is expected sooner; both are credited by the same block."""
    anna = await utxo.watch.address("anna")
    spec = utxo.watch.network.spec
    rates: dict[int, int | None] = {HALF: 10**9, HALF + 1: 1, HALF + 2: None}
    told_by(utxo, lambda tx: replace(tx, fee_rate=rates[tx.transfers[0].amount_minor]))
    fees = FeeLoop(
        chain=utxo.watch.chain,
        network=utxo.watch.network,
        database=utxo.watch.as_watcher,
        clock=utxo.watch.clock,
    )
    assert await fees.sample()
    for amount in rates:
        utxo.sim.pay([(anna.address, amount)])
    await utxo.watch.follow()
    blocks = []
    for deposit in await utxo.watch.deposits():
        async with utxo.watch.as_watcher.unit_of_work() as uow:
            found = await eta.of_deposit(uow, spec, deposit)
        assert found is not None
        assert found.provisional is not None
        blocks.append(found.provisional.blocks)
    fast, slow, unknown = blocks
    assert fast < unknown < slow
    utxo.sim.mine(6)  # their sum waits for as many
    await utxo.watch.follow()
    assert {row.state.value for row in await utxo.watch.deposits()} == {"final"}
    await utxo.watch.audit()


async def test_n05_an_asset_that_the_mempool_made_up_is_not_credited(
    account: AccountBench,
) -> None:
    """The sum in wei told as dollars of six decimals would be half a million millions."""
    anna = await account.watch.address("anna")
    account_told_by(account, changed(asset="eth:USDT"))
    account.sim.pay("eth:ETH", anna.address, ETHER // 2)
    await account.watch.follow()
    assert (await account.watch.deposit()).asset == "eth:USDT"
    account.sim.mine(12)
    await account.watch.follow()
    deposit = await account.watch.deposit()
    assert (deposit.asset, deposit.state.value) == ("eth:ETH", "final")
    assert await account.watch.books() == {
        "brand:acme:clearing:eth:ETH": ETHER // 2,
        "custody:eth/deposit/acme:eth:ETH": ETHER // 2,
    }
    await account.watch.audit()


async def test_n05_coin_that_a_token_tx_never_moved_is_not_credited(
    account: AccountBench,
) -> None:
    """The tx is real and pays a stranger in tokens; the mempool adds native coin to a player."""
    thief = await account.watch.address("thief")

    def richer(tx: MempoolTx) -> MempoolTx:
        coin = Transfer(
            txid=tx.txid,
            position="value",
            asset="eth:ETH",
            to_key=thief.key,
            amount_minor=ETHER,
        )
        return replace(tx, transfers=(coin,))

    account_told_by(account, richer)
    account.sim.pay("eth:USDT", "0x" + "77" * 20, 10**6)
    await account.watch.follow()
    assert await of_players(account) == {("thief", ETHER): "detected"}
    account.sim.mine(12)
    await account.watch.follow()
    assert await of_players(account) == {("thief", ETHER): "replaced"}
    assert await account.watch.books() == {}
    await account.watch.audit()
