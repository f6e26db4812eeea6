"""Payments to another script of an issued key: suspense and a search, never a credit (D26)."""

from typing import Any

import pytest
from embit import base58, hashes
from sqlalchemy.exc import IntegrityError

from gateway.sandbox.nodes import Bitcoind
from tests.integration.watchers.conftest import RealBench, UtxoBench
from tests.integration.watchers.test_own_transactions import FEE, funded, settle
from tests.integration.watchers.test_rescans import ask, work_off
from tests.integration.watchers.test_rescans_own import begin_at_tip
from tests.support.watching import Watch, account_xpubs
from watchers import coins, doctor_probe, doctor_store, inflows, token_store
from watchers.addresses import AddressRow
from watchers.chain import Outpoint, Pay
from watchers.chains.hd import child_public_key
from watchers.errors import CoinTaken
from watchers.inflows import InflowKind, InflowRow

pytestmark = pytest.mark.postgres

HALF = 50_000_000
CUSTODY, SUSPENSE = "custody:btc/hot:btc:BTC", "suspense:btc:BTC"
REGTEST_P2PKH = b"\x6f"  # of Bitcoin and Litecoin alike


def p2pkh(row: AddressRow) -> str:
    """The address that a wallet shows which turns bc1q... into the old form."""
    return str(base58.encode_check(REGTEST_P2PKH + bytes.fromhex(row.key.removeprefix("0014"))))


def public_key(watch: Watch, row: AddressRow) -> bytes:
    """The compressed public key of an own address."""
    return child_public_key(
        account_xpubs(watch.chain)[row.account],
        account=row.account,
        chain=row.branch,
        index=row.address_index,
        versions=frozenset({bytes.fromhex("043587cf")}),
        is_compressed=True,
    )


async def inflow(watch: Watch) -> InflowRow:
    """The only one."""
    async with watch.as_api.unit_of_work() as uow:
        (found,) = await inflows.find(uow)
    return found


async def searches(watch: Watch) -> list[tuple[str, str, str | None]]:
    """Kind, subject and player of each open search."""
    async with watch.as_api.unit_of_work() as uow:
        rows = await token_store.searches(uow, network=watch.network.name, limit=10)
    return [(row["kind"], row["subject"], row["player_id"]) for row in rows]


async def alarms(watch: Watch) -> list[str]:
    async with watch.as_owner.unit_of_work() as uow:
        result = await uow.execute("SELECT kind FROM gateway.alarms ORDER BY kind")
        return list(result.scalars())


async def spendable(watch: Watch) -> list[coins.CoinRow]:
    async with watch.as_payouts.unit_of_work() as uow:
        return await coins.spendable(uow, network=watch.network.name, limit=100)


async def test_d26_another_script_of_an_issued_key_is_suspense_and_no_credit(
    utxo: UtxoBench,
) -> None:
    """P2PKH of the public key whose P2WPKH address the player has."""
    watch = utxo.watch
    anna = await watch.address("anna")
    txid = utxo.sim.pay([(p2pkh(anna), HALF)])
    await watch.follow()
    assert await watch.deposits() == []

    utxo.sim.mine()
    await watch.follow()
    assert (await inflow(watch)).state == "seen"
    assert await watch.books() == {}
    await watch.audit()

    utxo.sim.mine(2)
    await watch.follow()
    found = await inflow(watch)
    assert (found.kind, found.state) == (InflowKind.OTHER_SCRIPT, "booked")
    assert (found.txid, found.position, found.address) == (txid, "out:0", anna.address)
    assert (found.role, found.brand) == ("deposit", "acme")
    assert await watch.books() == {CUSTODY: HALF, SUSPENSE: HALF}
    assert await watch.deposits() == []
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    assert await alarms(watch) == ["other_script"]
    await watch.audit()


async def test_d26_p2pk_short_and_long_and_the_address_itself_in_one_tx(utxo: UtxoBench) -> None:
    """Four outputs to one key: the address is a deposit, three siblings are inflows, one search."""
    watch = utxo.watch
    anna = await watch.address("anna")
    short = public_key(watch, anna)
    assert "0014" + hashes.hash160(short).hex() == anna.key
    x = int.from_bytes(short[1:], "big")
    field = 2**256 - 2**32 - 977
    y = pow(x**3 + 7, (field + 1) // 4, field)
    y = y if y % 2 == short[0] % 2 else field - y
    long = b"\x04" + short[1:] + y.to_bytes(32, "big")
    wrong = b"\x04" + short[1:] + (y + 2).to_bytes(32, "big")  # the same parity, on no curve
    utxo.sim.pay_scripts(
        [
            (anna.key, HALF),
            (utxo.sim.codec.parse(p2pkh(anna)).key, HALF + 1),
            (f"21{short.hex()}ac", HALF + 2),
            (f"41{long.hex()}ac", HALF + 3),
            (f"41{wrong.hex()}ac", HALF + 4),
        ]
    )
    utxo.sim.mine(6)
    await watch.follow()
    deposit = await watch.deposit()
    assert (deposit.amount_minor, deposit.state.value) == (HALF, "final")
    async with watch.as_api.unit_of_work() as uow:
        found = await inflows.find(uow)
    assert sorted(item.amount_minor - HALF for item in found) == [1, 2, 3]
    assert {item.kind for item in found} == {InflowKind.OTHER_SCRIPT}
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    assert [coin.amount_minor for coin in await spendable(watch)] == [HALF]
    await watch.audit()


async def test_d26_a_reorg_takes_it_back_and_another_block_brings_it_again(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.pay([(p2pkh(anna), HALF)])
    utxo.sim.mine(3)
    await watch.follow()
    assert await watch.books() == {CUSTODY: HALF, SUSPENSE: HALF}
    lost = utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await watch.follow()
    assert (await inflow(watch)).state == "orphaned"
    assert await watch.books() == {}
    assert await searches(watch) == []
    await watch.audit()

    utxo.sim.mine(3)
    await watch.follow()
    again = await inflow(watch)
    assert (again.state, again.kind) == ("booked", InflowKind.OTHER_SCRIPT)
    assert await watch.books() == {CUSTODY: HALF, SUSPENSE: HALF}
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    assert await spendable(watch) == []
    await watch.audit()

    utxo.sim.activate(lost)  # the first branch is back, and grows
    utxo.sim.mine(8)
    await watch.follow()
    assert await watch.books() == {CUSTODY: HALF, SUSPENSE: HALF}
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    await watch.audit()


async def test_d26_no_payout_can_take_its_coin(utxo: UtxoBench) -> None:
    """Neither by selection nor by name; and the database itself refuses."""
    watch = utxo.watch
    anna = await watch.address("anna")
    txid = utxo.sim.pay([(p2pkh(anna), HALF)])
    utxo.sim.mine(6)
    await watch.follow()
    assert await spendable(watch) == []
    with pytest.raises(CoinTaken):
        async with watch.as_payouts.unit_of_work() as uow:
            await coins.reserve(
                uow, attempt_id=watch.ids.new_id(), outpoints=[Outpoint(txid=txid, vout=0)]
            )
    with pytest.raises(IntegrityError, match="coins_other_script_is_never_reserved"):
        async with watch.as_payouts.unit_of_work() as uow:
            await uow.execute(
                "UPDATE chain.coins SET reserved_by = :id", {"id": watch.ids.new_id()}
            )


async def test_d26_our_own_payout_to_another_script_of_an_own_key_comes_back_as_an_inflow(
    utxo: UtxoBench,
) -> None:
    """A player withdraws to the old form of a deposit address: paid, and in suspense."""
    watch = utxo.watch
    payouts = await funded(utxo)
    ben = await watch.address("ben")
    sent = await payouts.pay(p2pkh(ben), HALF // 5)
    utxo.sim.mine(3)
    await watch.follow()
    paid = await payouts.get(sent.id)
    assert (paid.state, paid.is_paid_as_planned) == ("final", True)
    found = await inflow(watch)
    assert (found.kind, found.amount_minor) == (InflowKind.OTHER_SCRIPT, HALF // 5)
    assert len(await watch.deposits()) == 1
    await watch.audit()
    await settle(watch, paid)
    assert await watch.books() == {
        CUSTODY: HALF - FEE,
        "brand:acme:clearing:btc:BTC": HALF - HALF // 5 - FEE,
        SUSPENSE: HALF // 5,
    }
    await watch.audit()


async def test_d26_a_rescan_finds_once_what_a_version_before_did_not_know(utxo: UtxoBench) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.pay([(p2pkh(anna), HALF)])
    utxo.sim.mine(6)
    await begin_at_tip(watch)
    assert await watch.books() == {}
    for found in (1, 0):
        await ask(watch)
        assert (await work_off(watch)).found == found
    assert (await inflow(watch)).state == "booked"
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    await watch.audit()


async def test_d26_the_doctor_tells_the_brand_and_nobody_else(utxo: UtxoBench) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    txid = utxo.sim.pay([(p2pkh(anna), HALF)])
    utxo.sim.mine(3)
    await watch.follow()
    (pay,) = await asked(watch, txid, brand="acme")
    assert (pay["address"], pay["player_id"]) == (anna.address, "anna")
    assert (pay["is_other_script"], pay["stands"]) == (True, "booked")
    assert pay["search"] == "other_script"
    assert await asked(watch, txid, brand="zest") == []


async def asked(watch: Watch, txid: str, *, brand: str) -> list[dict[str, Any]]:
    """What the watcher's answer about a txid says that it pays."""
    async with watch.as_api.unit_of_work(brand=brand) as uow:
        probe_id = await doctor_store.ask(
            uow,
            probe_id=watch.ids.new_id(),
            network=watch.network.name,
            brand=brand,
            txid=txid,
            at=watch.clock.now(),
        )
    await doctor_probe.answer_all(watch.as_watcher, watch.chain, watch.network, clock=watch.clock)
    async with watch.as_api.unit_of_work(brand=brand) as uow:
        (row,) = await doctor_store.probes(uow, [probe_id])
    pays: list[dict[str, Any]] = row["answer"]["pays"]
    return pays


@pytest.mark.node
@pytest.mark.parametrize("real", ["bitcoind", "litecoind"], indirect=True)
async def test_d26_a_real_node_shows_another_script_and_takes_it_back(real: RealBench) -> None:
    """P2PKH of the key of the player's address, paid by the node's wallet; then its block goes."""
    world, watch = real.world, real.watch
    asset = world.native
    coin = f"{watch.network.name}/hot:{asset}"
    anna = await watch.address("anna")
    before = await watch.books()
    await world.pay([Pay(asset=asset, address=p2pkh(anna), amount_minor=HALF)])
    await world.mine(12)
    await watch.follow()
    assert await watch.deposits() == []
    assert await watch.books() == before | {f"custody:{coin}": HALF, f"suspense:{asset}": HALF}
    assert await searches(watch) == [("other_script", anna.address, "anna")]
    assert await spendable(watch) == []
    await watch.audit()

    await world.lose(12)
    await watch.follow()
    assert (await inflow(watch)).state == "orphaned"
    assert await watch.books() == before
    await watch.audit()


@pytest.mark.node
async def test_d26_a_coinbase_to_the_bare_key_waits_for_its_maturity_on_bitcoind(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    """P2PK, as miners wrote it: booked at a hundred confirmations, and the node agrees on it."""
    watch = bitcoin_watch
    anna = await watch.address("anna")
    key = public_key(watch, anna).hex()
    await bitcoind.rpc("generatetodescriptor", 1, f"pk({key})")
    await bitcoind.mine(98)
    await watch.follow()
    assert (await inflow(watch)).state == "seen"
    await bitcoind.mine(1)
    await watch.follow()
    found = await inflow(watch)
    assert (found.state, found.kind) == ("booked", InflowKind.OTHER_SCRIPT)
    assert await watch.books() == {CUSTODY: found.amount_minor, SUSPENSE: found.amount_minor}
    assert await spendable(watch) == []
    await watch.audit()
