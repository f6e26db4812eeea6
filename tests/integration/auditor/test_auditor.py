"""The auditor finds nothing on a clean road and bites on every planted violation."""

import pytest
from sqlalchemy import text

from config.clock import Waker
from config.database import Database
from gateway.api.wire import WireContext
from gateway.webhooks.sequencer import Sequencer
from tests.support.auditor import audit
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

DEPOSITS = "(SELECT id FROM chain.deposits LIMIT 1)"
PAID = "(SELECT id FROM gateway.withdrawals WHERE state = 'completed' LIMIT 1)"
CUSTODY = "(SELECT id FROM ledger.accounts WHERE kind = 'custody' LIMIT 1)"
CLEARING = "(SELECT id FROM ledger.accounts WHERE kind = 'clearing' LIMIT 1)"
ENTRY = (
    "INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount) "
    "SELECT "
)

# What somebody with every right and no trigger in the way could do -> the point that must bite.
PLANTS = {
    "an entry more than the posting has": (
        ENTRY + "posting_id, 99, booked_at, account_id, asset, side, 1 "
        "FROM ledger.entries ORDER BY posting_id, line LIMIT 1",
        "1 debits = credits",
    ),
    "an amount edited": (
        "UPDATE ledger.entries SET amount = amount + 1 WHERE line = 1 AND posting_id = "
        "(SELECT posting_id FROM ledger.entries ORDER BY 1 LIMIT 1)",
        "1 debits = credits",
    ),
    "entries without their posting": (
        "DELETE FROM ledger.postings WHERE reference = "
        "(SELECT reference FROM ledger.postings ORDER BY 1 LIMIT 1)",
        "1 debits = credits",
    ),
    "a posting without entries": (
        "DELETE FROM ledger.entries WHERE posting_id = "
        "(SELECT posting_id FROM ledger.entries ORDER BY 1 LIMIT 1)",
        "1 debits = credits",
    ),
    "an entry of another asset": (
        "UPDATE ledger.entries SET asset = 'eth:ETH' WHERE posting_id = "
        "(SELECT posting_id FROM ledger.entries ORDER BY 1 LIMIT 1)",
        "1 debits = credits",
    ),
    "two reversals of one posting": (
        "UPDATE ledger.postings SET reverses = (SELECT id FROM ledger.postings ORDER BY 1 LIMIT 1) "
        "WHERE id IN (SELECT id FROM ledger.postings ORDER BY 1 DESC LIMIT 2)",
        "1 debits = credits",
    ),
    "a checked account below zero": (
        "INSERT INTO ledger.pending_credits SELECT id, -1000000000000 "
        "FROM ledger.accounts WHERE kind = 'clearing'",
        "2 nobody below zero",
    ),
    "a cached balance one unit off": (
        f"UPDATE ledger.free_balances SET balance = balance + 1 WHERE account_id = {CUSTODY}",
        "2 nobody below zero",
    ),
    "an account without a balance row": (
        f"DELETE FROM ledger.checked_balances WHERE account_id = {CLEARING}",
        "2 nobody below zero",
    ),
    "coins in custody that nobody owns": (
        "UPDATE ledger.entries SET amount = amount + 1 WHERE line = 1 AND account_id = " + CUSTODY,
        "3 custody covers",
    ),
    "liabilities above custody": (
        "UPDATE ledger.entries SET amount = amount * 1000 WHERE account_id = " + CLEARING,
        "3 custody covers",
    ),
    "a deposit credited again": (
        "WITH d AS (SELECT * FROM ledger.postings WHERE kind = 'deposit_provisional' LIMIT 1), "
        "p AS (INSERT INTO ledger.postings (id, booked_at, reference, kind) "
        "SELECT gen_random_uuid(), booked_at, replace(reference, ':provisional', ':clearing'), "
        "kind FROM d RETURNING id) "
        + ENTRY
        + "p.id, e.line, e.booked_at, e.account_id, e.asset, e.side, e.amount "
        "FROM d JOIN ledger.entries e ON e.posting_id = d.id CROSS JOIN p",
        "4 credited once",
    ),
    "a deposit in another's key": (
        "UPDATE chain.deposit_keys SET txid = 'ff'",
        "4 credited once",
    ),
    "a transfer with two deposits": (
        "INSERT INTO chain.deposits SELECT (jsonb_populate_record(d, "
        "jsonb_build_object('id', gen_random_uuid()))).* FROM chain.deposits d",
        "4 credited once",
    ),
    "a deposit that says it is credited to play": (
        "UPDATE chain.deposits SET credited_stage = 'provisional'",
        "4 credited once",
    ),
    "a withdrawal paid by two final txs": (
        "WITH o AS (INSERT INTO chain.outgoing SELECT (jsonb_populate_record(o, "
        "jsonb_build_object('id', gen_random_uuid(), 'txid', 'ff'))).* FROM chain.outgoing o "
        "RETURNING id) INSERT INTO gateway.attempt_members "
        f"SELECT o.id, {PAID}, 0 FROM o",
        "5 paid once",
    ),
    "a withdrawal on two families": (
        "WITH o AS (INSERT INTO chain.outgoing SELECT (jsonb_populate_record(o, jsonb_build_object("
        "'id', gen_random_uuid(), 'txid', 'ff', 'state', 'signed', 'family_id', "
        "gen_random_uuid()))).* FROM chain.outgoing o RETURNING id) "
        f"INSERT INTO gateway.attempt_members SELECT o.id, {PAID}, 0 FROM o",
        "5 paid once",
    ),
    "a completed withdrawal that was not settled": (
        "UPDATE gateway.withdrawals SET amount = amount + 1 WHERE state = 'completed'",
        "5 paid once",
    ),
    "a missing history row": (
        "DELETE FROM ledger.state_history WHERE version = 2",
        "6 told once",
    ),
    "a state changed past the trigger": (
        "UPDATE gateway.withdrawals SET state = 'failed' WHERE state = 'completed'",
        "6 told once",
    ),
    "a missing event": (
        f"DELETE FROM ledger.events WHERE object_id = {PAID} AND object_version = 3",
        "6 told once",
    ),
    "an event told twice": (
        "INSERT INTO ledger.events (id, brand, type, object_kind, object_id, object_version, "
        "previous_state, snapshot, created_at) SELECT gen_random_uuid(), brand, type, object_kind, "
        f"object_id, object_version, previous_state, snapshot, created_at FROM ledger.events "
        f"WHERE object_id = {PAID} AND object_version = 3",
        "6 told once",
    ),
    "an event of another type": (
        f"UPDATE ledger.events SET type = 'deposit.reversed' WHERE object_id = {DEPOSITS}",
        "6 told once",
    ),
    "a hole in the feed": (
        "DELETE FROM gateway.event_log WHERE brand = 'acme' AND seq = 2",
        "6 told once",
    ),
    "a terminal row that moved": (
        "UPDATE ledger.state_history SET from_state = 'completed', to_state = 'cancelled' "
        f"WHERE object_id = {PAID} AND to_state = 'completed'",
        "7 allowed transitions",
    ),
    "a change that does not follow the one before": (
        "UPDATE ledger.state_history SET from_state = 'waiting_liquidity' "
        f"WHERE object_id = {PAID} AND to_state = 'queued'",
        "7 allowed transitions",
    ),
    "a hold that no account shows": (
        "UPDATE ledger.holds SET state = 'captured' WHERE state = 'settled'",
        "8 holds",
    ),
    "a live withdrawal without its hold": (
        "DELETE FROM ledger.holds",
        "8 holds",
    ),
    "a hold of another amount": (
        "UPDATE ledger.holds SET amount = amount + 1",
        "8 holds",
    ),
    "an open hold of nobody": (
        "INSERT INTO ledger.holds SELECT gen_random_uuid(), brand, player_id, asset, 1, 'open', 1, "
        "created_at FROM ledger.holds LIMIT 1",
        "8 at rest",
    ),
    "a queued withdrawal at rest": (
        "UPDATE gateway.withdrawals SET state = 'queued'",
        "8 at rest",
    ),
    "a tx of ours that nobody follows": (
        "UPDATE chain.outgoing SET state = 'seen'",
        "8 at rest",
    ),
    "an event without a number": (
        "INSERT INTO gateway.event_queue SELECT id, position, object_id, object_version "
        "FROM ledger.events LIMIT 1",
        "8 at rest",
    ),
    "a coin kept by a dead tx": (
        "WITH dead AS (UPDATE chain.outgoing SET state = 'replaced' RETURNING id) "
        "UPDATE chain.coins SET spent_by = NULL, spent_hash = NULL, spent_height = NULL, "
        "reserved_by = dead.id FROM dead",
        "8 at rest",
    ),
}


async def _road(house: Payouts) -> None:
    """A deposit, a withdrawal paid, one refused and one cancelled; every event numbered."""
    await house.fund("btc:BTC", "1")
    await house.fund("btc:BTC", "1", into="acme")
    await house.deposit("player-1", "0.4")
    await house.request("0.5")
    lane = await house.cycle()
    for _ in range(6):
        await house.mine()
        await house.cycle(lane)
    sequencer = Sequencer(
        database=house.database,
        clock=house.clock,
        ids=house.ids,
        context=WireContext(assets=house.registry.assets, livemode=False),
        waker=Waker(poll_seconds=1.0),
    )
    while await sequencer.run_once():
        pass


async def test_every_planted_violation_is_found_and_a_clean_road_has_none(btc: Payouts) -> None:
    """Each plant is made without triggers, audited in its own transaction and rolled back."""
    await _road(btc)
    engine = btc.database.engine
    assert await audit(engine, at_rest=True) == []

    missed = {}
    for name, (statement, point) in PLANTS.items():
        async with engine.connect() as connection:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            planted = await connection.exec_driver_sql(statement)
            found = await audit(connection, at_rest=True)
            await connection.rollback()
        if planted.rowcount == 0 or not any(line.startswith(point) for line in found):
            missed[name] = found
    assert missed == {}
    assert await audit(engine, at_rest=True) == []


async def test_work_in_progress_is_no_violation_until_rest_is_claimed(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "1", into="acme")
    row = await btc.request("0.5")

    assert await audit(btc.database.engine, at_rest=False) == []
    waiting = await audit(btc.database.engine, at_rest=True)
    assert f"8 at rest: withdrawal {row.id} waits in queued" in waiting


async def test_an_empty_house_has_no_violations(database: Database) -> None:
    assert await audit(database.engine, at_rest=True) == []
