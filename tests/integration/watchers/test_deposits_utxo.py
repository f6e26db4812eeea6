"""Deposits on a UTXO chain: seen, credited once, settled, and taken back when the chain says so."""

import pytest

from ledger import holds
from tests.integration.watchers.conftest import UtxoBench
from watchers import addresses, inflows

pytestmark = pytest.mark.postgres

HALF = 50_000_000  # satoshi: min 1, full 3 confirmations
PROVISIONAL = "player:acme:anna:provisional:btc:BTC"
CLEARING = "brand:acme:clearing:btc:BTC"
CUSTODY = "custody:btc/hot:btc:BTC"


async def test_a_deposit_is_seen_credited_and_settled(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "detected"

    utxo.sim.mine()
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, PROVISIONAL: HALF}

    utxo.sim.mine(2)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert await utxo.watch.states(deposit.id) == ["detected", "pending", "provisional", "final"]
    assert await utxo.watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    await utxo.watch.audit()


async def test_d01_block_replaced_before_credit_returns_to_the_mempool(utxo: UtxoBench) -> None:
    """2 coins need 2 confirmations: at 1 nothing was posted yet."""
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, 200_000_000)])
    utxo.sim.mine()
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "pending"

    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    await utxo.watch.follow()

    assert (await utxo.watch.deposit()).state == "detected"
    assert (await utxo.watch.deposit()).height is None
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_d02_mined_again_elsewhere_counts_from_the_new_block(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, 200_000_000)])
    utxo.sim.mine()
    await utxo.watch.follow()
    first = await utxo.watch.deposit()

    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    utxo.sim.mine(6)
    await utxo.watch.follow()

    again = await utxo.watch.deposit()
    assert (again.id, again.state) == (first.id, "final")
    assert again.block_hash != first.block_hash
    assert await utxo.watch.books() == {CUSTODY: 200_000_000, CLEARING: 200_000_000}
    await utxo.watch.audit()


async def test_d04_orphaned_after_credit_and_included_again_is_one_credit(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()

    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    orphaned = await utxo.watch.deposit()
    assert (orphaned.state, orphaned.prior_state) == ("orphaned", "provisional")
    await utxo.watch.audit()

    utxo.sim.mine(3)
    await utxo.watch.follow()
    states = await utxo.watch.states(orphaned.id)
    assert states[-3:] == ["orphaned", "provisional", "final"]
    assert await utxo.watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    await utxo.watch.audit()


async def test_d04_a_final_conflict_reverses_exactly_the_credit(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()

    utxo.sim.rewind(1)
    utxo.sim.conflict(txid)
    utxo.sim.mine(2)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "orphaned"

    utxo.sim.mine()
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "reversed"
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_d05_d77_reversal_of_spent_clearing_becomes_a_receivable_and_is_repaid_first(
    utxo: UtxoBench,
) -> None:
    """Final, then moved on by a withdrawal's hold, then reversed; the next deposit repays."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    async with utxo.watch.as_api.unit_of_work() as uow:
        assert await holds.place(
            uow,
            hold_id=utxo.watch.ids.new_id(),
            brand="acme",
            player_id="anna",
            asset="btc:BTC",
            amount=HALF,
            reference="hold:1",
            at=utxo.watch.clock.now(),
        )

    utxo.sim.rewind(3)
    utxo.sim.conflict(txid)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "reversed"
    assert (await utxo.watch.books())["receivable:acme:btc:BTC"] == HALF

    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    books = await utxo.watch.books()
    assert "receivable:acme:btc:BTC" not in books
    assert CLEARING not in books
    await utxo.watch.audit()


async def test_reversal_by_absence_after_t_blocks(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    utxo.sim.rewind(1)
    utxo.sim.drop(txid)
    utxo.sim.mine(5)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "orphaned"

    utxo.sim.mine()
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "reversed"
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_absence_waits_while_the_mempool_has_the_tx(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    utxo.sim.rewind(1)
    for _ in range(9):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "orphaned"


async def test_a_reversed_deposit_that_returns_starts_a_new_cycle(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    (block,) = utxo.sim.mine()
    utxo.sim.mine(1)
    lost = utxo.sim.tip.ref.hash
    await utxo.watch.follow()
    utxo.sim.rewind(2)
    utxo.sim.conflict(txid)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "reversed"

    utxo.sim.activate(lost)
    utxo.sim.mine(4)
    await utxo.watch.follow()

    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.cycle, deposit.block_hash) == ("final", 2, block)
    assert await utxo.watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    await utxo.watch.audit()


async def test_d06_there_and_back_again_is_as_if_only_one_branch_existed(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(2)
    branch_a = utxo.sim.tip.ref.hash
    await utxo.watch.follow()
    utxo.sim.rewind(2)
    for _ in range(3):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "orphaned"

    utxo.sim.activate(branch_a)
    utxo.sim.mine(2)
    await utxo.watch.follow()

    assert (await utxo.watch.deposit()).state == "final"
    assert await utxo.watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    await utxo.watch.audit()


async def test_d07_reorg_to_the_same_height_is_found_by_hash(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    height = utxo.sim.tip.ref.height

    utxo.sim.rewind(1)
    utxo.sim.mine_exactly([])
    assert utxo.sim.tip.ref.height == height
    await utxo.watch.follow()

    assert (await utxo.watch.deposit()).state == "orphaned"


async def test_d08_reorg_while_nobody_watched_is_walked_before_any_new_credit(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    lost = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    await utxo.watch.follower.drop_lease()

    utxo.sim.rewind(1)
    utxo.sim.conflict(lost)
    utxo.sim.mine(1)
    utxo.sim.pay([(anna.address, 2 * HALF)])
    utxo.sim.mine(4)
    await utxo.watch.follow(utxo.watch.new_follower("after the restart"))

    first, second = await utxo.watch.deposits()
    assert (first.state, second.state) == ("reversed", "final")
    assert await utxo.watch.books() == {CUSTODY: 2 * HALF, CLEARING: 2 * HALF}
    await utxo.watch.audit()


async def test_d15_three_outputs_to_one_address_are_three_deposits(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF), (anna.address, HALF + 1), (anna.address, HALF + 2)])
    utxo.sim.mine(6)  # 1.5 coins together: full 6
    await utxo.watch.follow()
    found = await utxo.watch.deposits()
    assert [item.position for item in found] == ["out:0", "out:1", "out:2"]
    assert (await utxo.watch.books())[CLEARING] == 3 * HALF + 3
    await utxo.watch.audit()


async def test_d16_one_tx_pays_three_players_in_one_commit(utxo: UtxoBench) -> None:
    players = [await utxo.watch.address(name) for name in ("anna", "ben", "cleo")]
    utxo.sim.pay([(row.address, HALF) for row in players])
    utxo.sim.mine()
    await utxo.watch.follow()
    assert {item.player_id for item in await utxo.watch.deposits()} == {"anna", "ben", "cleo"}
    assert (await utxo.watch.books())[CUSTODY] == 3 * HALF
    await utxo.watch.audit()


async def test_d20_below_the_minimum_is_recorded_and_booked_as_unallocated(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, 9_999)])
    utxo.sim.mine()
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert deposit.state == "below_minimum"
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()

    utxo.sim.mine()
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: 9_999, "unallocated:btc:BTC": 9_999}
    await utxo.watch.audit()


async def test_d22_d23_a_rotated_address_stays_watched(utxo: UtxoBench) -> None:
    """Its payments are the same owner's and flagged; one that was on its way before is not."""
    old = await utxo.watch.address("anna")
    utxo.sim.pay([(old.address, HALF)])
    await utxo.watch.follow()
    async with utxo.watch.as_api.unit_of_work(brand="acme") as uow:
        new = await addresses.rotate(
            uow, address_id=old.id, brand="acme", at=utxo.watch.clock.now()
        )
    assert new.id != old.id
    utxo.sim.pay([(old.address, HALF + 1)])
    utxo.sim.pay([(new.address, HALF + 2)])
    await utxo.watch.follow()
    utxo.sim.pay([(old.address, HALF + 3)])
    utxo.sim.mine(6)
    await utxo.watch.follow()
    found = await utxo.watch.deposits()
    assert [item.amount_minor - HALF for item in found] == [0, 1, 2, 3]
    assert {(item.player_id, item.state.value) for item in found} == {("anna", "final")}
    assert [item.is_late for item in found] == [False, True, False, True]
    await utxo.watch.audit()


async def test_d24_d25_value_to_an_address_that_no_player_has_is_an_inflow(
    utxo: UtxoBench,
) -> None:
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        pool_row = (await addresses.by_keys(uow, network="btc", keys=[hot.key]))[hot.key]
    utxo.sim.pay([(pool_row.address, 4 * HALF)])
    utxo.sim.mine(6)
    await utxo.watch.follow()

    async with utxo.watch.as_api.unit_of_work() as uow:
        (inflow,) = await inflows.find(uow)
    assert (inflow.state, inflow.role) == ("booked", "hot")
    assert await utxo.watch.books() == {CUSTODY: 4 * HALF, "suspense:btc:BTC": 4 * HALF}
    assert await utxo.watch.deposits() == []
    await utxo.watch.audit()


async def test_an_orphaned_inflow_is_reversed_and_booked_again_when_it_returns(
    utxo: UtxoBench,
) -> None:
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, "suspense:btc:BTC": HALF}

    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()

    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, "suspense:btc:BTC": HALF}
    await utxo.watch.audit()


async def test_more_reversals_than_allowed_in_one_step_wait_for_people(utxo: UtxoBench) -> None:
    """21 deposits of one tx are double-spent: the limit is 20, so none is reversed."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF + number) for number in range(21)])
    utxo.sim.mine(2)
    await utxo.watch.follow()
    utxo.sim.rewind(2)
    utxo.sim.conflict(txid)
    utxo.sim.mine(7)
    await utxo.watch.follow()
    assert await utxo.watch.deposit_states() == {"orphaned"}
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        alarms = (await uow.execute("SELECT kind FROM gateway.alarms")).scalars().all()
    assert sorted(alarms) == ["reversals_over_limit", "switch_stopped"]
    await utxo.watch.audit()
