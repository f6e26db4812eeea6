"""The whole tx that made a coin is kept once, however many coins of ours it made (D28)."""

import pytest
from embit.transaction import Transaction
from sqlalchemy.exc import DBAPIError

from config.migrate import MIGRATIONS_FOLDER
from tests.integration.watchers.conftest import UtxoBench
from watchers import coins

pytestmark = pytest.mark.postgres

OUTPUTS = 300
SMALL = 1_000_000


async def paid_many_times(utxo: UtxoBench) -> str:
    """One final tx with OUTPUTS outputs to anna."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, SMALL + number) for number in range(OUTPUTS)])
    utxo.sim.mine(6)
    await utxo.watch.follow()
    return txid


async def spendable(utxo: UtxoBench) -> list[coins.CoinRow]:
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        return await coins.spendable(uow, network="btc", limit=2 * OUTPUTS)


async def kept(utxo: UtxoBench) -> list[str]:
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT txid FROM chain.previous_txs")
        return list(found.scalars())


async def test_d28_the_coins_of_one_tx_share_its_bytes(utxo: UtxoBench) -> None:
    """In the database, and in the memory of who spends them."""
    txid = await paid_many_times(utxo)
    found = await spendable(utxo)
    assert len(found) == OUTPUTS
    assert await kept(utxo) == [txid]
    assert {id(coin.previous_tx) for coin in found} == {id(found[0].previous_tx)}
    assert Transaction.parse(found[0].previous_tx).txid().hex() == txid


async def test_a_tx_that_is_mined_again_is_still_kept_once(utxo: UtxoBench) -> None:
    txid = await paid_many_times(utxo)
    utxo.sim.rewind(6)
    utxo.sim.mine(7)
    await utxo.watch.follow()
    assert await kept(utxo) == [txid]
    assert len(await spendable(utxo)) == OUTPUTS
    await utxo.watch.audit()


async def test_nobody_edits_the_bytes_of_a_tx(utxo: UtxoBench) -> None:
    """What the signer checks amounts against is written once."""
    await paid_many_times(utxo)
    for database in (utxo.watch.as_watcher, utxo.watch.as_payouts):
        for statement in (
            "UPDATE chain.previous_txs SET raw = ''",
            "DELETE FROM chain.previous_txs",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with database.unit_of_work() as uow:
                    await uow.execute(statement)


async def test_the_upgrade_moves_what_coins_hold(utxo: UtxoBench) -> None:
    """On a database as the older release left it: every coin with its own copy."""
    await paid_many_times(utxo)
    before = await spendable(utxo)
    script = (MIGRATIONS_FOLDER / "sql" / "0016_previous_txs.sql").read_text("utf-8")
    async with utxo.watch.as_owner.unit_of_work() as uow:
        for statement in (
            "ALTER TABLE chain.coins ADD COLUMN previous_tx bytea",
            "UPDATE chain.coins c SET previous_tx = t.raw FROM chain.previous_txs t "
            "WHERE (c.network, c.txid) = (t.network, t.txid)",
            "ALTER TABLE chain.coins ALTER COLUMN previous_tx SET NOT NULL",
            "DROP TABLE chain.previous_txs CASCADE",
        ):
            await uow.execute(statement)
    async with utxo.watch.as_owner.unit_of_work() as uow:
        for statement in script.split(";\n"):
            if statement.strip():
                await uow.execute(statement)
    assert await spendable(utxo) == before
