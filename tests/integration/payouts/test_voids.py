"""What ended before signing reaches the signer, and stays unpaid against the database (S25)."""

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from config import alarm_store
from config.clock import SystemClock, Waker
from config.migrate import MIGRATIONS_FOLDER
from config.settings import DatabaseSettings, SignerSettings
from gateway.payouts import void_store, withdrawals
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import RETRY_SECONDS
from gateway.payouts.role import PayoutRole
from gateway.payouts.voids import MOOT_AFTER, PAGE, VoidDelivery
from gateway.payouts.withdrawals import Trigger
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Authorisation, Refusal, Voided, VoidRequest
from signer.store import read_log
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.sign_requests import cancel as signed_cancel
from tests.support.signing import socket_signer

pytestmark = pytest.mark.postgres

DEADLINE_SECONDS = 20.0


class LostAnswer:
    """The real signer; the first answer to a void is lost on the way back."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.answers: list[Voided | Refusal] = []

    async def void(self, request: VoidRequest) -> Voided | Refusal:
        self.answers.append(await self._inner.void(request))
        if len(self.answers) == 1:
            raise SignerUnavailable("the answer was lost")
        return self.answers[-1]


async def ready(house: Payouts) -> None:
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")


def delivery(house: Payouts, signer: Any = None) -> VoidDelivery:
    """A fresh process under the payouts' own database role."""
    return VoidDelivery(
        database=house.role, signer=signer or house.signer, clock=house.clock, ids=house.ids
    )


def client_cancel(house: Payouts, row: WithdrawalRow, **changes: Any) -> Authorisation:
    """The client's signed cancel of a withdrawal."""
    created = int(house.clock.now().timestamp())
    return signed_cancel(f"wd_test_{row.id.hex}", **{"created": created, **changes})


async def cancel(
    house: Payouts, row: WithdrawalRow, claim: Authorisation | None = None
) -> Authorisation:
    """What the API does with a client's cancel."""
    claim = claim or client_cancel(house, row)
    async with house.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, row.id, ids=house.ids, at=house.clock.now())
        await void_store.add_cancel(uow, row.id, claim)
    return claim


async def uncancel(house: Payouts, row: WithdrawalRow) -> None:
    """What a thief with the database does: the row stands as if nobody had cancelled."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET state = 'queued', is_reserved = true, code = NULL,"
            " version = version + 1 WHERE id = :id",
            {"id": row.id},
        )


async def void_rows(house: Payouts) -> list[tuple[str, str | None, int]]:
    """(state, code, refusals) of every void, oldest first."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT state, code, attempts FROM gateway.voids ORDER BY withdrawal_id"
        )
        return [(row.state, row.code, row.attempts) for row in result]


def voided_entries(house: Payouts) -> list[dict[str, Any]]:
    """What the signer's log says was made void."""
    entries = [json.loads(body) for _, body, _ in read_log(house.signer.kit.settings.store)]
    return [entry["fields"] for entry in entries if entry["kind"] == "voided"]


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_s25_cancelled_order_is_not_paid_though_the_database_says_queued(
    house: Any, network: str
) -> None:
    here: Payouts = await house(network)
    await ready(here)
    row = await here.request("0.5")
    claim = await cancel(here, row)
    assert await delivery(here).deliver_page() == 1
    assert await void_rows(here) == [("delivered", None, 0)]
    [entry] = voided_entries(here)
    assert (entry["brand"], entry["request_id"]) == ("acme", row.request_id)
    assert entry["cancel"]["signature"] == claim.signature

    await uncancel(here, row)
    await here.cycle(times=3)

    found = await here.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_refused")
    assert not here.sim.pool
    async with here.database.unit_of_work() as uow:
        detail = await uow.execute("SELECT detail FROM gateway.alarms")
        assert detail.scalar_one() == f"voided: {row.request_id}: the order was given up"


async def test_s25_one_uncancelled_row_never_blocks_the_others(btc: Payouts) -> None:
    await ready(btc)
    rows = [await btc.request(f"0.{index + 1}", player_id=f"p-{index}") for index in range(3)]
    await cancel(btc, rows[1])
    await delivery(btc).deliver_page()
    await uncancel(btc, rows[1])

    await btc.cycle(times=4)

    assert await btc.states(*rows) == ["sent", "on_hold", "sent"]


async def test_s25_cancel_answers_at_once_and_the_void_goes_out_when_the_signer_is_back(
    btc: Payouts,
) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    btc.signer.is_down = True
    await cancel(btc, row)
    assert await btc.states(row) == ["cancelled"]
    with pytest.raises(SignerUnavailable):
        await delivery(btc).deliver_page()
    assert await void_rows(btc) == [("pending", None, 0)]

    btc.signer.is_down = False
    assert await delivery(btc).deliver_page() == 1
    assert await void_rows(btc) == [("delivered", None, 0)]
    assert await delivery(btc).deliver_page() == 0
    await btc.assert_at_rest()


async def test_s25_lost_answer_is_asked_for_again_and_makes_one_void(btc: Payouts) -> None:
    """The process died between the signer's commit and its own."""
    row = await btc.request("0.5")
    await cancel(btc, row)
    signer = LostAnswer(btc.signer)
    with pytest.raises(SignerUnavailable):
        await delivery(btc, signer).deliver_page()
    assert await void_rows(btc) == [("pending", None, 0)]
    await delivery(btc, signer).deliver_page()

    assert await void_rows(btc) == [("delivered", None, 0)]
    assert signer.answers[0] == signer.answers[1]
    assert len(voided_entries(btc)) == 1


async def test_s25_two_processes_at_once_make_one_void(btc: Payouts) -> None:
    row = await btc.request("0.5")
    await cancel(btc, row)
    await asyncio.gather(*(delivery(btc).deliver_page() for _ in range(4)))
    assert await void_rows(btc) == [("delivered", None, 0)]
    assert len(voided_entries(btc)) == 1


async def test_s25_every_end_without_a_signature_is_void_by_the_gateways_word(
    btc: Payouts,
) -> None:
    """On each of them the PAM credits back (CONTRACT 1); rejected ones are shown at the API."""
    await ready(btc)
    declined, expired, cancelled = [await btc.request("0.1") for _ in range(3)]
    async with btc.database.unit_of_work() as uow:
        at = btc.clock.now()
        await withdrawals.give_up(uow, declined, Trigger.DECLINE, ids=btc.ids, at=at)
        await withdrawals.give_up(uow, expired, Trigger.EXPIRE, ids=btc.ids, at=at)
        await withdrawals.cancel(uow, cancelled.id, ids=btc.ids, at=at)
    assert await delivery(btc).deliver_page() == 3

    assert await void_rows(btc) == [("delivered", None, 0)] * 3
    assert [entry["cancel"] for entry in voided_entries(btc)] == [None, None, None]
    for row in (declined, expired, cancelled):
        await uncancel(btc, row)
    await btc.cycle(times=6)
    assert await btc.states(declined, expired, cancelled) == ["on_hold"] * 3


async def test_s25_cancel_by_a_key_that_the_signer_does_not_trust_still_ends_the_order(
    btc: Payouts,
) -> None:
    """The gateway knows the key, the signer not yet: the withdrawal has ended either way."""
    row = await btc.request("0.5")
    await cancel(btc, row, client_cancel(btc, row, keyid="client-9"))
    await delivery(btc).deliver_page()
    assert await void_rows(btc) == [("delivered", None, 0)]
    assert [entry["cancel"] for entry in voided_entries(btc)] == [None]


async def test_s25_void_that_the_signer_refuses_is_asked_again_more_and_more_slowly(
    btc: Payouts,
) -> None:
    """The order's key is not in the signer's register: it signs nothing of it now, maybe later."""
    row = await btc.request("0.5")
    await cancel(btc, row)
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawal_requests SET signature_input ="
            " replace(signature_input, 'client-1', 'client-9')"
        )
    assert await delivery(btc).deliver_page() == 1
    assert await void_rows(btc) == [("pending", "unknown_key", 1)]
    assert await btc.alarms() == ["void_refused"]
    assert await delivery(btc).deliver_page() == 0
    btc.clock.advance(RETRY_SECONDS)
    assert await delivery(btc).deliver_page() == 1
    btc.clock.advance(RETRY_SECONDS)
    assert await delivery(btc).deliver_page() == 0
    btc.clock.advance(RETRY_SECONDS)

    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawal_requests SET signature_input ="
            " replace(signature_input, 'client-9', 'client-1')"
        )
    assert await delivery(btc).deliver_page() == 1
    assert await void_rows(btc) == [("delivered", "unknown_key", 2)]
    assert await btc.alarms() == []


async def test_s25_void_of_an_order_that_no_signature_can_pay_any_more_is_moot(
    btc: Payouts,
) -> None:
    row = await btc.request("0.5")
    await cancel(btc, row)
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.withdrawal_requests SET signature = 'sig1=:AAAA:'")
    await delivery(btc).deliver_page()
    assert await void_rows(btc) == [("pending", "unauthentic", 1)]
    btc.clock.advance((MOOT_AFTER + timedelta(seconds=1)).total_seconds())
    await delivery(btc).deliver_page()
    assert await void_rows(btc) == [("moot", "unauthentic", 1)]
    assert await btc.alarms() == []


async def test_s25_signature_that_the_books_lost_stops_the_network(btc: Payouts) -> None:
    """A restored database cancels what the signer signed after the backup was made."""
    await ready(btc)
    row = await btc.request("0.5")
    await btc.cycle(times=2)
    assert await btc.states(row) == ["sent"]
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET state = 'queued', txid = NULL, attempt_id = NULL,"
            " sign_requested_at = NULL, is_reserved = false, version = version + 1"
        )
    await cancel(btc, row)
    await delivery(btc).deliver_page()

    assert await void_rows(btc) == [("delivered", "signer_knows_more", 0)]
    async with btc.database.unit_of_work() as uow:
        assert await alarm_store.is_open(uow, kind="signer_knows_more", network="btc")
    later = await btc.request("0.1", player_id="later")
    await btc.cycle(times=2)
    assert await btc.states(later) == ["queued"]


async def test_s25_pages_are_bounded(btc: Payouts) -> None:
    for number in range(PAGE + 1):
        await cancel(btc, await btc.request("0.1", player_id=f"p-{number}"))
    assert await delivery(btc).deliver_page() == PAGE
    assert await delivery(btc).deliver_page() == 1
    assert {state for state, _, _ in await void_rows(btc)} == {"delivered"}


async def test_s25_loop_delivers_over_the_signers_socket(btc: Payouts) -> None:
    """The whole way: role, loop, wire, server, vault; the loop outlives a signer that is down."""
    row = await btc.request("0.5")
    await cancel(btc, row)
    waker = Waker(poll_seconds=0.05)
    delivered = asyncio.Event()

    async with socket_signer(btc) as (_, client):

        class Watched:
            """The client; says when an answer has come."""

            async def void(self, request: VoidRequest) -> Voided | Refusal:
                if not delivered.is_set():
                    delivered.set()
                    raise SignerUnavailable("not yet")
                return await client.void(request)

        work = asyncio.create_task(delivery(btc, Watched()).run(waker))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await delivered.wait()
            while (await void_rows(btc))[0][0] != "delivered":
                waker.wake()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    assert len(voided_entries(btc)) == 1


async def test_s25_payout_role_delivers_by_itself(
    btc: Payouts, test_database: TestDatabase
) -> None:
    """One loop per process beside the lanes; that no node answers does not touch it."""
    row = await btc.request("0.5")
    await cancel(btc, row)
    clock = SystemClock()
    async with socket_signer(btc) as (socket, _):
        settings = btc.registry.settings.model_copy(
            update={
                "database": DatabaseSettings(url=test_database.owner_url),
                "signer": SignerSettings(socket=socket),
            }
        )
        role = PayoutRole(
            replace(btc.registry, settings=settings), database=btc.role, clock=clock, ids=btc.ids
        )
        work = asyncio.create_task(role.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await void_rows(btc) != [("delivered", None, 0)]:
                await clock.sleep(0.05)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    assert [entry["request_id"] for entry in voided_entries(btc)] == [row.request_id]


async def test_s25_upgrade_tells_the_signer_what_ended_before_it(btc: Payouts) -> None:
    """The last statement of the migration, on a database as an older release left it."""
    migration = (MIGRATIONS_FOLDER / "sql" / "0005_voids.sql").read_text("utf-8")
    backfill = "INSERT INTO gateway.voids" + migration.rpartition("INSERT INTO gateway.voids")[2]
    open_one, ended, old, signed = [await btc.request("0.1") for _ in range(4)]
    for row in (ended, old, signed):
        await cancel(btc, row)
    async with btc.database.unit_of_work() as uow:
        await uow.execute("DELETE FROM gateway.voids")
        await uow.execute("UPDATE gateway.withdrawals SET accepted_at = now()")
        await uow.execute(
            "UPDATE gateway.withdrawals SET accepted_at = now() - interval '32 days'"
            " WHERE id = :id",
            {"id": old.id},
        )
        await uow.execute(
            "UPDATE gateway.withdrawals SET txid = 'ab' WHERE id = :id", {"id": signed.id}
        )
        await uow.execute(backfill)
        found = await uow.execute("SELECT withdrawal_id, request_id, state FROM gateway.voids")
        rows = [(row.withdrawal_id, row.request_id, row.state) for row in found]
        assert rows == [(ended.id, ended.request_id, "pending")]
    assert await btc.states(open_one) == ["waiting_liquidity"]
