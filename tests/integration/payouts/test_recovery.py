"""A database restored to an earlier moment: it never pays again, and `cage recover` heals it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from embit.psbt import PSBT
from sqlalchemy.exc import IntegrityError, ProgrammingError

from gateway import withdrawals_store
from gateway.errors import TooLate, Unavailable
from gateway.payouts import limits, withdrawals
from gateway.payouts import recovery_store as rows
from gateway.payouts.crash import Crash, no_crash
from gateway.payouts.errors import NothingToRecover
from gateway.payouts.imports import Importer
from gateway.payouts.lane import PayoutLane
from gateway.payouts.raw_tx import account_nonce
from gateway.payouts.recovery_store import RecoveryRow
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import SignedTx
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.restores import Backup, backups, rescan
from watchers import addresses, coins, inflows, nonces, outgoing
from watchers.addresses import AddressRole
from watchers.chain import Outpoint
from watchers.errors import CoinTaken

pytestmark = pytest.mark.postgres

NETWORKS = ("btc", "eth")


@dataclass(kw_only=True)
class Story:
    """A backup before two payouts: one was ordered before it, one after it."""

    house: Payouts
    before: WithdrawalRow
    after: WithdrawalRow
    waits: WithdrawalRow  # ordered before the backup and never paid
    asked: int  # questions that the signer had heard when the database was lost


async def lost(house: Payouts, backup: Backup, *, blocks: int) -> Story:
    """Pay after the backup, mine `blocks` and follow, then lose everything since."""
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")
    lane = await house.cycle()
    before = await house.request("0.5")
    await backup.take()
    after = await house.request("0.4", player_id="later")
    await house.cycle(lane, times=2)
    assert await house.states(before, after) == ["sent", "sent"]
    if blocks:
        await house.mine(blocks)
        await house.cycle(lane)
    asked = len(house.signer.asked)
    back = await backup.bring_back(house)
    waits = await back.request("0.1", player_id="other")
    return Story(house=back, before=before, after=after, waits=waits, asked=asked)


async def recovery_of(house: Payouts) -> RecoveryRow:
    async with house.database.unit_of_work() as uow:
        row = await rows.current(uow, house.network)
    assert row is not None
    return row


def importer(house: Payouts, *, crash: Crash = no_crash) -> Importer:
    """`cage recover`, which works under the database's owner."""
    return Importer(replace(house.lane(crash=crash), database=house.database))


async def confirm(house: Payouts, row: RecoveryRow, *people: str) -> bool:
    async with house.database.unit_of_work() as uow:
        return await rows.confirm(
            uow, row.id, version=row.version, people=people or ("ada", "bob"), at=house.clock.now()
        )


async def of(house: Payouts, row: WithdrawalRow) -> WithdrawalRow | None:
    """The withdrawal of a request_id, which a recovery may have made anew."""
    async with house.database.unit_of_work() as uow:
        return await withdrawals_store.by_request_id(
            uow, brand=row.brand, request_id=row.request_id
        )


@pytest.fixture
async def backup(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Backup]:
    """Backups of this test's database."""
    async with backups() as take_back:
        yield Backup(database=test_database, file=tmp_path / "backup", take_back=take_back)


@pytest.mark.parametrize("blocks", [0, 1, 4])
@pytest.mark.parametrize("network", NETWORKS)
async def test_p09_restored_database_pays_nothing_again_and_is_healed(
    network: str, blocks: int, house: BuildHouse, backup: Backup
) -> None:
    """Unmined, just mined and long final at the moment of the restore."""
    story = await lost(await house(network), backup, blocks=blocks)
    built = story.house

    await built.cycle(times=3)
    await built.follow()  # the watcher catches up and does not know whose txs these are
    await built.cycle(times=2)

    assert "recovery" in await built.alarms()
    assert await built.states(story.before, story.waits) == ["queued", "queued"]
    assert await of(built, story.after) is None
    assert len(built.signer.asked) == story.asked
    row = await recovery_of(built)
    assert (row.state, row.cause) == ("open", "unknown_signatures")
    assert not await confirm(built, row)  # not before the import

    row = await importer(built).run()
    assert (row.state, row.left_over) == ("imported", ())
    await built.cycle(times=2)
    assert len(built.signer.asked) == story.asked
    assert await built.states(story.before) == ["signed"]

    await rescan(built)
    assert await confirm(built, await recovery_of(built))
    await built.cycle(times=3)
    for _ in range(4):
        await built.mine(2)
        await built.cycle(times=2)  # a process of its own: on a slow machine a lease is over

    remade = await of(built, story.after)
    assert remade is not None
    assert await built.states(story.before, remade, story.waits) == ["completed"] * 3
    async with built.database.unit_of_work() as uow:  # what is made anew counts like any other
        assert await limits.judged(uow, remade.id) is not None
        assert await limits.check(uow) == []
    assert [built.paid(item) for item in (story.before, remade, story.waits)] == [1, 1, 1]
    assert "recovery" not in await built.alarms()
    await built.assert_at_rest()


@pytest.mark.parametrize("point", ["payout.imported", "payout.recovery_closed"])
@pytest.mark.parametrize("network", NETWORKS)
async def test_p09_recovery_killed_in_the_middle_goes_on(
    network: str, point: str, house: BuildHouse, backup: Backup
) -> None:
    story = await lost(await house(network), backup, blocks=1)
    built = story.house
    await built.cycle()
    await built.follow()
    if point == "payout.imported":
        with pytest.raises(SimulatedCrash):
            await importer(built, crash=crash_at(point)).run()
    await importer(built).run()
    await rescan(built)
    assert await confirm(built, await recovery_of(built))
    if point != "payout.imported":
        with pytest.raises(SimulatedCrash):
            await built.cycle(built.lane(crash=crash_at(point)))
    await built.cycle(times=3)
    for _ in range(3):
        await built.mine(2)
        await built.cycle(times=2)
    remade = await of(built, story.after)
    assert remade is not None
    assert await built.states(story.before, remade, story.waits) == ["completed"] * 3
    await built.assert_at_rest()


async def test_p09_without_a_loss_there_is_no_recovery(btc: Payouts) -> None:
    """Every crash of a lane, and a start in the middle of everything, is an ordinary start."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    row = await btc.request("0.5")
    for point in ("payout.sign_requested", "payout.signer_answered", "payout.signed"):
        with pytest.raises(SimulatedCrash):
            await btc.cycle(btc.lane(crash=crash_at(point)))
    lane = await btc.cycle(times=2)
    for _ in range(3):
        await btc.mine(2)
        await btc.cycle(lane)
    assert await btc.states(row) == ["completed"]
    assert await btc.alarms() == []
    with pytest.raises(NothingToRecover):
        await importer(btc).run()


async def test_p09_signer_that_is_down_at_the_start_is_waited_for(
    btc: Payouts, backup: Backup
) -> None:
    """Nothing is planned, signed or expired by books that nobody has compared."""
    story = await lost(btc, backup, blocks=0)
    built = story.house
    built.signer.is_down = True
    lane = await built.cycle(times=2)
    assert await built.states(story.before) == ["queued"]
    built.signer.is_down = False
    await built.cycle(lane, times=2)
    assert "recovery" in await built.alarms()
    assert len(built.signer.asked) == story.asked


async def test_p09_nothing_is_given_up_while_the_books_may_lack_its_payment(
    btc: Payouts, backup: Backup
) -> None:
    """The PAM would credit back what was paid."""
    story = await lost(btc, backup, blocks=0)
    built = story.house
    await built.cycle()
    for row in (story.before, story.waits):
        with pytest.raises(TooLate, match="recovery"):
            async with built.database.unit_of_work() as uow:
                await withdrawals.cancel(uow, row.id, ids=built.ids, at=built.clock.now())
    built.clock.advance(8 * 86_400.0)
    await built.cycle(times=2)
    assert await built.states(story.before, story.waits) == ["queued", "queued"]


async def test_p09_nothing_is_given_up_before_the_first_comparison_after_a_restore(
    btc: Payouts, backup: Backup
) -> None:
    """The API is quicker than payouts: its books may not know that they are old."""
    story = await lost(btc, backup, blocks=0)
    built = story.house

    async def cancel(row: WithdrawalRow) -> WithdrawalRow | None:
        async with built.database.unit_of_work() as uow:
            return await withdrawals.cancel(uow, row.id, ids=built.ids, at=built.clock.now())

    for row in (story.before, story.waits):
        with pytest.raises(Unavailable, match="not_compared") as refused:
            await cancel(row)
        assert refused.value.retry_after_seconds is not None
    built.signer.is_down = True
    await built.cycle(times=2)
    with pytest.raises(Unavailable, match="not_compared"):
        await cancel(story.waits)
    built.signer.is_down = False
    await built.cycle()
    with pytest.raises(TooLate, match="recovery"):
        await cancel(story.before)


async def test_p09_restored_books_send_nothing_until_they_are_compared(
    btc: Payouts, backup: Backup
) -> None:
    """What they call signed may have been replaced or aborted since."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    row = await btc.request("0.5")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.signed")))
    await backup.take()
    built = await backup.bring_back(btc)
    built.signer.is_down = True
    lane = await built.cycle(times=2)
    assert (await built.states(row), built.sim.pool) == (["signed"], {})
    built.signer.is_down = False
    await built.cycle(lane)
    assert await built.states(row) == ["sent"]


async def test_p09_a_running_lane_compares_anew_when_the_server_was_started_anew(
    btc: Payouts,
) -> None:
    """A restore below a living process, by the files of the server."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    loop = PayoutLane(await btc.cycle())
    await loop.cycle()
    row = await btc.request("0.5")
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.signer_logs SET life = 'of another start'")
    btc.signer.is_down = True
    await loop.cycle()
    with pytest.raises(Unavailable, match="not_compared"):
        async with btc.database.unit_of_work() as uow:
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    btc.signer.is_down = False
    await loop.cycle()
    assert await btc.states(row) == ["sent"]
    async with btc.database.unit_of_work() as uow:
        assert await rows.are_whole(uow, ["btc"])


async def test_p09_only_two_different_people_confirm(btc: Payouts, backup: Backup) -> None:
    story = await lost(btc, backup, blocks=0)
    await story.house.cycle()
    row = await importer(story.house).run()
    for people in (("ada", "ada"), ("ada",), ("ada", "bob", "eve")):
        with pytest.raises(IntegrityError):
            await confirm(story.house, row, *people)


async def test_p09_payouts_may_not_confirm_its_own_recovery(btc: Payouts, backup: Backup) -> None:
    story = await lost(btc, backup, blocks=0)
    await story.house.cycle()
    row = await importer(story.house).run()
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with story.house.role.unit_of_work() as uow:
            await rows.confirm(
                uow, row.id, version=row.version, people=("a", "b"), at=btc.clock.now()
            )


async def test_p09_short_clearing_leaves_the_signature_to_a_later_import(
    btc: Payouts, backup: Backup
) -> None:
    """The order was funded after the backup; the watcher has not caught up yet."""
    await btc.fund("btc:BTC", "1")
    lane = await btc.cycle()
    await backup.take()
    await btc.fund("btc:BTC", "3", into="acme")
    paid = await btc.request("0.5")
    await btc.cycle(lane, times=2)
    built = await backup.bring_back(btc)
    await built.cycle()

    row = await importer(built).run()
    [case] = row.left_over
    assert "clearing of acme is short" in case["reason"]
    assert await of(built, paid) is None  # nothing of it was written

    await built.follow()
    async with built.database.unit_of_work() as uow:
        found = await inflows.find(uow, network="btc", state=inflows.InflowState.BOOKED)
        for inflow in found:
            await inflows.assign(
                uow,
                inflow_id=inflow.id,
                target="clearing",
                brand="acme",
                ids=built.ids,
                at=built.clock.now(),
            )
    row = await importer(built).run()
    assert row.left_over == ()
    remade = await of(built, paid)
    assert remade is not None
    assert remade.state == "signed"


async def test_p09_coins_of_a_signature_that_stays_out_are_spent_by_nobody(
    btc: Payouts, backup: Backup
) -> None:
    """Also those that a block brings after the import."""
    await btc.fund("btc:BTC", "1")
    lane = await btc.cycle()
    await backup.take()
    await btc.fund("btc:BTC", "3", into="acme")
    paid = await btc.request("3")  # by the new coin and by the old one
    await btc.cycle(lane, times=2)
    inputs = PSBT.parse(btc.signer.asked[-1].unsigned).tx.vin
    spent = {(item.txid.hex(), item.vout) for item in inputs}
    assert len(spent) == 2
    built = await backup.bring_back(btc)
    await built.cycle()
    [case] = (await importer(built).run()).left_over
    assert "its coins are kept for it" in case["reason"]
    await built.follow()
    async with built.database.unit_of_work() as uow:
        free = await coins.spendable(uow, network="btc", limit=100)
        assert spent.isdisjoint((coin.outpoint.txid, coin.outpoint.vout) for coin in free)
        held = [Outpoint(txid=txid, vout=vout) for txid, vout in sorted(spent)]
        holders = await coins.holders(uow, network="btc", outpoints=held)
    assert {str(holder) for holder in holders.values()} == {case["attempt_id"]}
    with pytest.raises(CoinTaken):
        async with built.database.unit_of_work() as uow:
            await coins.reserve(uow, attempt_id=built.ids.new_id(), outpoints=held)
    assert await of(built, paid) is None


async def test_p09_the_nonce_of_a_signature_that_stays_out_is_never_given_again(
    eth: Payouts, backup: Backup
) -> None:
    await eth.fund("eth:ETH", "1")
    lane = await eth.cycle()
    await backup.take()
    await eth.fund("eth:ETH", "3", into="acme")
    paid = await eth.request("0.5")
    await eth.cycle(lane, times=2)
    signed = account_nonce(eth.signer.asked[-1].unsigned)
    async with eth.database.unit_of_work() as uow:
        [hot] = await addresses.by_role(uow, network="eth", roles=(AddressRole.HOT,))
    built = await backup.bring_back(eth)
    await built.cycle()

    for _ in range(2):  # asked again, the same
        [case] = (await importer(built).run()).left_over
        assert "clearing of acme is short" in case["reason"]
        assert await of(built, paid) is None

    async with built.database.unit_of_work() as uow:
        following = await nonces.allocate(
            uow, network="eth", sender_key=hot.key, attempt_id=built.ids.new_id()
        )
    assert following == signed + 1


async def test_p09_an_order_that_differs_from_the_books_is_a_persons_case(
    btc: Payouts, backup: Backup
) -> None:
    """The same request_id, another amount: the tx of the one never settles the other."""
    story = await lost(btc, backup, blocks=0)
    built = story.house
    await built.cycle()
    async with built.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET amount = amount - 1 WHERE id = :id",
            {"id": story.before.id},
        )

    row = await importer(built).run()

    assert any("another order under this id" in case["reason"] for case in row.left_over)
    assert await built.states(story.before) == ["queued"]


async def test_p09_an_entry_that_the_database_refuses_does_not_stop_the_others(
    btc: Payouts, backup: Backup
) -> None:
    """Its unit of work is undone and it is named; `cage recover` ends."""
    story = await lost(btc, backup, blocks=0)
    built = story.house
    await built.cycle()
    async with built.database.unit_of_work() as uow:
        check = f"CHECK (request_id <> '{story.after.request_id}')"
        await uow.execute(f"ALTER TABLE gateway.withdrawals ADD CONSTRAINT refused {check}")

    row = await importer(built).run()

    assert any("IntegrityError" in case["reason"] for case in row.left_over)
    assert row.state == "imported"
    assert await of(built, story.after) is None


async def test_p09_replacement_that_the_books_lost_is_the_live_attempt_again(
    btc: Payouts, backup: Backup
) -> None:
    """The backup knows the first attempt of a family; the signer also signed its replacement."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    row = await btc.request("0.5")
    await btc.cycle(times=2)
    first = btc.signer.asked[-1]
    await backup.take()
    psbt = PSBT.parse(first.unsigned)
    [change] = first.change_paths
    psbt.outputs[change].value -= 5_000
    bumped = replace(
        first,
        attempt_id=str(btc.ids.new_id()),
        unsigned=psbt.serialize(),
        replaces=first.attempt_id,
    )
    answer = await btc.signer.sign(bumped)
    assert isinstance(answer, SignedTx), answer
    built = await backup.bring_back(btc)

    await built.cycle()
    assert "recovery" in await built.alarms()
    done = await importer(built).run()
    assert done.left_over == ()
    async with built.database.unit_of_work() as uow:
        family = await outgoing.family(uow, UUID(first.attempt_id))
    assert [(tx.family_number, str(tx.id)) for tx in family] == [
        (1, first.attempt_id), (2, bumped.attempt_id),
    ]  # fmt: skip
    live = await built.row(row)
    assert (live.state, live.txid) == ("sent", answer.txid)
    assert str(live.attempt_id) == bumped.attempt_id
    assert await confirm(built, await recovery_of(built))
    await built.cycle(times=2)
    assert answer.txid in built.sim.pool
    for _ in range(3):
        await built.mine(2)
        await built.cycle(times=2)
    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    await built.assert_at_rest()
