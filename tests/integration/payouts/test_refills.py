"""Cold to hot: built, signed outside, taken over, sent, settled; and whatever gets in between."""

from dataclasses import replace
from pathlib import Path

import pytest
from embit import finalizer, psbt

from gateway.payouts import comparison, rebalances, rebalances_store
from gateway.payouts.crash import POINTS_OF_REFILLS
from gateway.payouts.imports import Importer
from gateway.payouts.rebalances import State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.recovery_store import Place
from gateway.payouts.refill_step import CONFLICT, FAILED
from tests.support.bumps import no_breaks, work
from tests.support.cold import ALONE, TWO_OF_THREE, ColdPeople
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import BuildHouse
from tests.support.payout_parts import SimulatedCrash, crash_at
from tests.support.payouts import Payouts
from tests.support.refills import ColdHouse
from tests.support.restores import Backup, backups
from watchers import coins, registry, switches
from watchers.chain import Pay
from watchers.errors import CoinTaken
from watchers.switches import Action

pytestmark = pytest.mark.postgres

COIN = 100_000_000
FINAL_BLOCKS = 2


async def ready(btc: Payouts, people: ColdPeople = ALONE) -> tuple[ColdHouse, RebalanceRow]:
    """A refill of 0.7 whose file waits for signatures."""
    cold = await ColdHouse.of(btc, people)
    row = await cold.asked("0.7")
    await work(btc)
    assert (await cold.now(row)).state == State.UNSIGNED_READY
    return cold, row


@pytest.mark.parametrize("people", [ALONE, TWO_OF_THREE], ids=["alone", "two_of_three"])
@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_a_file_signed_outside_moves_the_value_and_the_books_follow_at_every_block(
    network: str, people: ColdPeople, house: BuildHouse
) -> None:
    built = await house(network)
    cold = await ColdHouse.of(built, people)
    row = await cold.asked("1.2")
    lane = await work(built)
    await no_breaks(built)
    tx = await cold.tx(row)
    assert (tx.state, tx.raw) == ("built", None)

    progress = await cold.sign(row)
    assert progress.raw is not None
    await no_breaks(built)
    await work(built, lane, times=2)
    assert (await cold.now(row)).state == State.SENT
    for _ in range(FINAL_BLOCKS):
        await built.mine()
        await no_breaks(built)
        await work(built, lane)
        await no_breaks(built)

    done, tx = await cold.now(row), await cold.tx(row)
    assert (done.state, done.txid, tx.txid) == (State.DONE, progress.txid, progress.txid)
    assert tx.fee_minor is not None
    moved = built.minor(built.native, "1.2")
    assert await cold.custody() == {
        "hot": 2 * COIN + moved,
        "cold": 2 * COIN - moved - tx.fee_minor,
    }
    assert await cold.events() == [
        f"rebalance.{state}"
        for state in ("proposed", "approved", "unsigned_ready", "signed", "sent", "done")
    ]
    assert built.signer.asked == []
    assert await built.alarms() == []
    await built.assert_at_rest()


async def test_change_goes_back_to_the_wallet_and_is_spent_by_the_next_refill(
    btc: Payouts,
) -> None:
    cold = await ColdHouse.of(btc, ALONE, coins=1)
    for _ in range(2):
        row = await cold.asked("0.3")
        lane = await work(btc)
        await cold.sign(row)
        await work(btc, lane, times=2)
        for _ in range(FINAL_BLOCKS):
            await btc.mine()
            await work(btc, lane)
        assert (await cold.now(row)).state == State.DONE
    used = [item.path for item in await cold.cold_addresses() if item.issued_at is not None]
    assert used == ["cold/1/0", "cold/1/1"]
    assert (await cold.custody())["hot"] == 2 * COIN + 2 * 30_000_000
    await no_breaks(btc)


async def test_the_file_is_the_same_however_often_the_lane_looks(btc: Payouts) -> None:
    cold, row = await ready(btc, TWO_OF_THREE)
    before = await cold.tx(row)
    lane = await work(btc, times=2)
    await work(btc, lane)
    assert await cold.tx(row) == before


async def test_signers_bring_their_files_one_by_one(btc: Payouts) -> None:
    cold, row = await ready(btc, TWO_OF_THREE)
    unsigned = (await cold.tx(row)).unsigned
    first = await cold.upload(row, TWO_OF_THREE.sign(unsigned, 1))
    assert first.raw is None
    await work(btc)
    assert (await cold.now(row)).state == State.UNSIGNED_READY
    again = await cold.upload(row, TWO_OF_THREE.sign(unsigned, 1))
    assert again == first
    second = await cold.upload(row, TWO_OF_THREE.sign(unsigned, 2))
    assert second.raw is not None
    await work(btc, times=2)
    assert (await cold.now(row)).state == State.SENT


@pytest.mark.parametrize(
    "point",
    [
        *POINTS_OF_REFILLS,
        "payout.broadcasting",
        "payout.sent_to_node",
        "payout.recorded",
        "payout.child_settled",
    ],
)
async def test_a_crash_anywhere_moves_it_once_and_books_it_once(btc: Payouts, point: str) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")

    async def dies() -> int:
        """One pass after another, each a process that dies at the point."""
        deaths = 0
        for _ in range(3):
            try:
                await btc.cycle(btc.lane(crash=crash_at(point)))
            except SimulatedCrash:
                deaths += 1
        return deaths

    deaths = await dies()
    await work(btc)
    await cold.sign(row)
    deaths += await dies()
    for _ in range(FINAL_BLOCKS + 1):
        await btc.mine()
        deaths += await dies()
    await work(btc, times=2)
    assert deaths > 0
    tx = await cold.tx(row)
    assert ((await cold.now(row)).state, tx.fee_minor is not None) == (State.DONE, True)
    assert await cold.custody() == {
        "hot": 2 * COIN + 70_000_000,
        "cold": 2 * COIN - 70_000_000 - (tx.fee_minor or 0),
    }
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_two_payout_processes_build_and_send_one(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    first, second = btc.lane(), btc.lane()
    await btc.cycle(first)
    built = await cold.tx(row)
    await btc.cycle(second)
    assert await cold.tx(row) == built
    await cold.sign(row)
    await btc.cycle(first, times=2)
    await btc.cycle(second, times=2)
    assert await cold.custody() == {"hot": 2 * COIN, "cold": 2 * COIN}
    for _ in range(FINAL_BLOCKS):
        await btc.mine()
        await btc.cycle(btc.lane())
    assert (await cold.custody())["hot"] == 2 * COIN + 70_000_000
    await no_breaks(btc)


async def test_what_its_signers_send_by_themselves_is_known_as_ours(btc: Payouts) -> None:
    """A wallet program's own button: nothing was uploaded, a block has it."""
    cold, row = await ready(btc)
    tx, spec = await cold.tx(row), btc.registry.chains["btc"]
    file = ALONE.sign(tx.unsigned, 0)
    found = registry.cold_signatures(spec, unsigned=tx.unsigned, upload=file)
    done = registry.cold_progress(spec, unsigned=tx.unsigned, signatures=found)
    assert done.raw is not None
    assert done.txid is not None
    btc.sim.pool[done.txid] = done.raw
    for _ in range(FINAL_BLOCKS):
        await btc.mine()
        await no_breaks(btc)
        await work(btc)
    await work(btc, times=2)
    assert (await cold.now(row)).state == State.DONE
    assert (await cold.custody())["hot"] == 2 * COIN + 70_000_000
    async with btc.database.unit_of_work() as uow:
        strangers = await uow.execute(
            "SELECT count(*) FROM chain.inflows WHERE txid = :txid", {"txid": done.txid}
        )
        assert strangers.scalar_one() == 0
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_a_reorg_takes_the_refill_back_and_brings_it_again(btc: Payouts) -> None:
    cold, row = await ready(btc)
    await cold.sign(row)
    lane = await work(btc, times=2)
    for _ in range(FINAL_BLOCKS):
        await btc.mine()
        await work(btc, lane)
    assert (await cold.now(row)).state == State.DONE
    settled = await cold.custody()

    await btc.world.lose(FINAL_BLOCKS)
    await btc.follow()
    await work(btc, lane, times=2)
    assert (await cold.now(row)).state == State.SENT
    assert await cold.custody() == {"hot": 2 * COIN, "cold": 2 * COIN}
    await no_breaks(btc)
    for _ in range(FINAL_BLOCKS + 1):
        await btc.mine()
        await work(btc, lane)
    assert (await cold.now(row)).state == State.DONE
    assert await cold.custody() == settled
    await no_breaks(btc)
    await btc.assert_at_rest()


def rival(cold: ColdHouse, unsigned: bytes) -> tuple[bytes, str]:
    """The owners spend the same coins by another tx, to themselves."""
    container = psbt.PSBT.parse(unsigned)
    container.outputs[0].script_pubkey = container.outputs[1].script_pubkey
    container.sign_with(cold.people.root(0))
    tx = finalizer.finalize_psbt(container)
    return bytes(tx.serialize()), bytes(tx.txid()).hex()


async def test_coins_that_their_owners_spend_elsewhere_end_the_unsigned_refill_loudly(
    btc: Payouts,
) -> None:
    cold, row = await ready(btc)
    raw, txid = rival(cold, (await cold.tx(row)).unsigned)
    btc.sim.pool[txid] = raw
    btc.is_compared = False  # the fee of a tx that is not ours is a break, and stays one
    await btc.mine()
    with pytest.raises(AssertionError, match="a break"):
        await no_breaks(btc)
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.CANCELLED, CONFLICT)
    assert CONFLICT in await btc.alarms()


async def test_coins_that_are_spent_elsewhere_after_signing_fail_it_once_that_is_final(
    btc: Payouts,
) -> None:
    cold, row = await ready(btc)
    raw, txid = rival(cold, (await cold.tx(row)).unsigned)
    signed = await cold.sign(row)
    lane = await work(btc, times=2)
    btc.sim.pool.pop(signed.txid or "")
    btc.sim.pool[txid] = raw
    btc.is_compared = False
    for _ in range(FINAL_BLOCKS + 1):
        await btc.mine()
        await work(btc, lane)
    await work(btc, lane)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "coins_spent")
    assert FAILED in await btc.alarms()
    assert (await cold.custody())["hot"] == 2 * COIN


async def test_a_cancelled_refill_frees_its_coins_for_the_next(btc: Payouts) -> None:
    cold, row = await ready(btc)
    held = (await cold.tx(row)).inputs
    async with btc.database.unit_of_work() as uow:
        locked = await rebalances_store.get(uow, row.id, lock=True)
        assert locked is not None
        await rebalances.move(
            uow, locked, Trigger.CANCEL, {"code": "cancelled_by_staff"},
            ids=btc.ids, at=btc.clock.now(),
        )  # fmt: skip
    await work(btc)
    assert (await cold.tx(row)).state == "refused"
    async with btc.database.unit_of_work() as uow:
        known = await coins.cold(uow, network="btc", limit=10)
    assert {item.outpoint for item in known.free} >= set(held)
    other = await cold.asked("1.5")
    await work(btc)
    assert (await cold.now(other)).state == State.UNSIGNED_READY


async def test_two_refills_never_share_a_coin(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    rows = [await cold.asked("0.7") for _ in range(2)]
    await work(btc)
    first, second = [set((await cold.tx(row)).inputs) for row in rows]
    assert first
    assert second
    assert not first & second
    third = await cold.asked("0.7")
    await work(btc)
    found = await cold.now(third)
    assert (found.state, found.code) == (State.FAILED, "cold_wallet_short")
    assert FAILED in await btc.alarms()


async def test_coins_that_are_not_final_yet_are_waited_for(btc: Payouts) -> None:
    """What has just gone to cold may be wanted back at once: nobody has to ask again."""
    cold = await ColdHouse.of(btc, ALONE, coins=1)
    place = (await cold.cold_addresses())[1].address
    pay = Pay(asset=btc.native, address=place, amount_minor=COIN)
    await btc.world.pay([pay])
    await btc.mine(1)
    row = await cold.asked("1.5")
    lane = await work(btc)
    assert (await cold.now(row)).state == State.APPROVED
    assert await btc.alarms() == []
    await btc.mine(FINAL_BLOCKS)
    await work(btc, lane)
    assert (await cold.now(row)).state == State.UNSIGNED_READY


async def test_coins_that_would_not_reach_when_final_are_not_waited_for(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE, coins=1)
    place = (await cold.cold_addresses())[1].address
    await btc.world.pay([Pay(asset=btc.native, address=place, amount_minor=1_000)])
    await btc.mine(1)
    row = await cold.asked("1.5")
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "cold_wallet_short")
    assert FAILED in await btc.alarms()


async def test_what_was_only_asked_for_is_not_built(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7", people=("alice",))
    await work(btc)
    assert (await cold.now(row)).state == State.PROPOSED


async def test_who_left_takes_the_approval_along(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.clients SET revoked_at = :at WHERE key_id = 'bob-key'",
            {"at": btc.clock.now()},
        )
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "person_left")


async def test_an_approval_that_is_too_old_is_cancelled(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    btc.clock.advance(86_401)
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.CANCELLED, rebalances.EXPIRED)


async def test_without_a_cold_wallet_nothing_is_built(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    settings = btc.registry.settings.model_copy(update={"cold": {}})
    btc.registry = replace(btc.registry, settings=settings)
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "no_cold_wallet")


async def test_it_goes_to_an_address_of_the_hot_wallet_or_nowhere(btc: Payouts) -> None:
    """A row that somebody changed behind the API's back."""
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.rebalances SET address = :address, address_key = :key WHERE id = :id",
            {"address": "bcrt1qfoe", "key": "0014" + "ab" * 20, "id": row.id},
        )
    await work(btc)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "not_a_hot_address")


async def test_a_stopped_asset_builds_nothing(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    row = await cold.asked("0.7")
    async with btc.database.unit_of_work() as uow:
        await switches.open_breaker(
            uow, scope="asset:btc:BTC", action=Action.BUILD, reason="test", actor="alice",
            ids=btc.ids, at=btc.clock.now(),
        )  # fmt: skip
    await work(btc)
    assert (await cold.now(row)).state == State.APPROVED


async def test_cold_coins_are_no_payouts_coins_and_hot_ones_no_refills(btc: Payouts) -> None:
    cold, row = await ready(btc)
    tx = await cold.tx(row)
    async with btc.database.unit_of_work() as uow:
        hot = await coins.spendable(uow, network="btc", limit=100)
        assert not {item.outpoint for item in hot} & set(tx.inputs)
    with pytest.raises(CoinTaken):
        async with btc.database.unit_of_work() as uow:
            await coins.reserve(uow, attempt_id=tx.id, outpoints=[hot[0].outpoint], is_cold=True)


async def test_the_comparison_with_the_signers_log_has_no_word_about_it(btc: Payouts) -> None:
    cold, row = await ready(btc)
    await cold.sign(row)
    await work(btc, times=2)
    assert (await cold.tx(row)).raw is not None
    assert await comparison.unsigned(btc.database, btc.signer, "btc", Place()) == []


async def test_payouts_go_on_beside_it_and_the_refilled_value_pays(btc: Payouts) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    await btc.fund("btc:BTC", "1", into="acme")
    row = await cold.asked("0.9")
    paid = await btc.request("0.5")
    lane = await work(btc, times=2)
    await cold.sign(row)
    for _ in range(FINAL_BLOCKS + 2):
        await work(btc, lane)
        await btc.mine()
    await work(btc, lane)
    assert await btc.states(paid) == ["completed"]
    assert (await cold.now(row)).state == State.DONE
    await no_breaks(btc)


async def test_p09_a_refill_that_a_restored_database_thinks_unsigned_is_known_by_its_block(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    """A payout and the refill were signed and mined after the backup; `cage recover` leaves the
    refill's file as it is, and its block tells whose it is."""
    async with backups() as take_back:
        backup = Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)
        cold = await ColdHouse.of(btc, ALONE)
        await btc.fund("btc:BTC", "1", into="acme")
        row = await cold.asked("0.7")
        lane = await work(btc)
        await backup.take()
        await cold.sign(row)
        await btc.request("0.5")
        await work(btc, lane, times=2)
        await btc.world.mine(FINAL_BLOCKS)

        back = await backup.bring_back(btc)
        found = ColdHouse(house=back, people=ALONE)
        await back.cycle()  # its lane sees what the signer signed, and stops
        await Importer(replace(back.lane(), database=back.database)).run()
        assert (await found.tx(row)).state == "built"
        await back.follow()
        tx = await found.tx(row)
        assert (tx.state, tx.txid) == ("final", (await found.now(row)).txid)
