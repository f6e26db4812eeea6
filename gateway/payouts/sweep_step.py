"""From final deposits to planned sweeps: collected, judged, and committed with their gas (T2-T5).

Owns `waiting` to `planned`, through a top-up where an address lacks gas: nothing is planned before
a block has it (T4). Whether a token moves at all is asked of a node before any gas is spent, so a
paused token, or an address that its issuer bars, holds up nobody else (D57). Bytes, nonces and
states are one unit of work per lot (write, then act); `sweep_sending` asks the signer and sends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    attempts,
    collecting,
    gas_station,
    sweep_choice,
    sweep_follow,
    sweep_terms,
    sweeps,
)
from gateway.payouts import sweeps_store as store
from gateway.payouts.collector_look import CollectorLook
from gateway.payouts.context import Lane
from gateway.payouts.sweep_building import GAS_WAIT, UNBOUND, WAIT, Builder, Wish
from gateway.payouts.sweep_choice import Verdict
from gateway.payouts.sweep_terms import TRANSFER_GAS, Terms
from gateway.payouts.sweeps import State, Step, Trigger
from gateway.payouts.sweeps_store import SweepRow
from ledger.errors import StaleState
from watchers import addresses, sweepable, switches
from watchers.chain import AccountState
from watchers.sweepable import Place, Unswept
from watchers.switches import Action

LOT: Final = 100  # sweeps planned in one unit of work; one message to the signer
LOOKED_MAX: Final = 500  # sweeps judged in one pass
COLLECTED_MAX: Final = 1_000  # deposits looked at in one pass; the next one goes on behind them
BUSY_MAX: Final = 5_000  # sweeps on their way at once
HOT_LANE: Final = 0
ESTIMATED_GAS: Final = 60_000  # of a token, to see whether it is worth asking a node

LOOK_AGAIN: Final = timedelta(hours=6)  # at what cannot be swept, which costs no gas

TRANSFER_FAILS: Final = "transfer_fails"
GAS_TOO_DEAR: Final = "gas_too_dear"
HAS_CODE: Final = "has_code"

SWEEP_BLOCKED: Final = "sweep_blocked"
"""Alarm: a token does not leave deposit addresses; by network."""

log = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What becomes of the sweeps that are not planned."""

    steps: list[Step]
    notes: list[tuple[UUID, str | None, datetime]]


class SweepStep:
    """The planning of one lane's sweeps. Its memory only paces."""

    def __init__(self, lane: Lane, *, page: int = COLLECTED_MAX) -> None:
        self._lane = lane
        self._page = page
        self._after: Place | None = None
        self._collector = CollectorLook(lane)

    async def run(self) -> bool:
        """One pass; whether anything was planned. Raises FeesUnknown, FeeAboveCap, PoolEmpty,
        NodeUnavailable."""
        lane = self._lane
        has_taken, self._after = await lane.run(self._collect)
        if has_taken:
            lane.crash("payout.sweeps_collected")
        async with lane.database.unit_of_work() as uow:
            found = await self._open(uow)
        found = await self._without_moved(found)
        if not found:
            return await self._refill()
        async with lane.database.unit_of_work() as uow:
            terms = await sweep_terms.load(lane, uow)
            native = await self._native(uow, found)
            coded = await sweepable.coded(
                uow, network=lane.network, keys=sorted({row.key for row in found})
            )
        if terms.is_too_dear(lane.network):
            later = lane.now() + GAS_WAIT
            notes: list[tuple[UUID, str | None, datetime]] = [
                (row.id, GAS_TOO_DEAR, later) for row in found
            ]
            await self._commit_judged(_Plan(steps=[], notes=notes), found)
            return False
        await self._collector.look()
        wishes, plan = await self._judge(found, terms, native, coded)
        if plan.steps or plan.notes:
            await self._commit_judged(plan, found)
        planned = False
        for start in range(0, len(wishes), LOT):
            lot = wishes[start : start + LOT]
            try:
                planned |= await lane.run(partial(self._plan, lot=lot, terms=terms))
            except StaleState as error:  # a person asked, or another pass moved one: look again
                log.info("payout.sweep_stale", network=lane.network, detail=str(error))
                continue
            lane.crash("payout.sweeps_planned")
        return await self._refill() or planned

    async def _refill(self) -> bool:
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            rule = (await sweep_terms.policy_of(lane, uow)).gas_of(lane.network)
        if rule.account_target_minor == 0:
            return False

        async def work(uow: Uow) -> UUID | None:
            terms = await sweep_terms.load(lane, uow)
            if terms.is_too_dear(lane.network) or await self._is_stopped(uow):
                return None
            return await gas_station.refill(lane, uow, terms)

        return await lane.run(work) is not None

    async def _is_stopped(self, uow: Uow) -> bool:
        native = self._lane.spec.native_asset
        return any(
            [
                await switches.is_stopped(
                    uow, network=self._lane.network, asset=native, action=action
                )
                for action in (Action.SWEEP, Action.SIGN, Action.BROADCAST)
            ]
        )

    async def _open(self, uow: Uow) -> list[SweepRow]:
        """What may be looked at now, without assets whose sweeps people stopped."""
        lane = self._lane
        if await store.busy_count(uow, network=lane.network) >= BUSY_MAX:
            return []
        stopped = [
            await switches.stopped(uow, network=lane.network, action=action)
            for action in (Action.SWEEP, Action.SIGN, Action.BROADCAST)
        ]
        native = lane.spec.native_asset
        if any(item.covers(native) for item in stopped):  # every sweep pays its gas in it
            return []
        going = [
            asset.id
            for asset in lane.registry.assets_of(lane.network)
            if not any(item.covers(asset.id) for item in stopped)
        ]
        rows = await store.due(
            uow, network=lane.network, assets=going, at=lane.now(), limit=LOOKED_MAX
        )
        one_each: dict[UUID, SweepRow] = {}
        for row in rows:
            one_each.setdefault(row.address_id, row)  # one tx of an address at a time
        return list(one_each.values())

    async def _native(self, uow: Uow, rows: Sequence[SweepRow]) -> dict[str, int]:
        return await sweepable.native(
            uow,
            network=self._lane.network,
            asset=self._lane.spec.native_asset,
            keys=sorted({row.key for row in rows}),
        )

    async def _without_moved(self, rows: Sequence[SweepRow]) -> list[SweepRow]:
        """Those that an earlier tx of theirs did not move after all: tried again, the others would
        only fail."""
        lane = self._lane
        again = [row.id for row in rows if row.tries and State(row.state) is not State.GAS_READY]
        if not again:
            return list(rows)

        async def work(uow: Uow) -> set[UUID]:
            locked = {row.id: row for row in await store.by_ids(uow, again)}
            told = {item["id"]: item for item in await store.moved_since(uow, again)}
            steps = [
                Step(
                    row=locked[key],
                    trigger=Trigger.FIND,
                    changes={
                        "attempt_id": item["attempt_id"],
                        "txid": item["txid"],
                        "moved": locked[key].amount_minor,
                        "code": None,
                    },
                )
                for key, item in told.items()
            ]
            await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
            await attempts.clear(lane, uow, sweep_follow.SWEEP_FAILED, objects=sorted(told))
            return set(told)

        moved = await lane.run(work)
        return [row for row in rows if row.id not in moved]

    # -- collecting ----------------------------------------------------------------------------

    async def _collect(self, uow: Uow) -> tuple[bool, Place | None]:
        """Final deposits join the open sweep of their address and asset, or open one; whether any
        did, and behind which the next pass goes on: what waits for a sweep on its way is in the
        way of no other."""
        lane = self._lane
        assets = [asset.id for asset in lane.registry.assets_of(lane.network)]
        found, end = await sweepable.unswept(
            uow, network=lane.network, assets=assets, after=self._after, limit=self._page
        )
        if not found:
            return False, end
        places = [(item.address_id, item.asset) for item in found]
        states = [state.value for state in State if state is not State.SWEPT]
        standing = {
            (row.address_id, row.asset): row
            for row in await store.open_at(uow, places, states=states)
        }
        fresh, steps, pairs = list[SweepRow](), list[Step](), list[tuple[UUID, UUID]]()
        for item in found:
            row = standing.get((item.address_id, item.asset))
            if row is None:
                row = self._new(item)
                fresh.append(row)
            elif State(row.state) in (State.WAITING, State.UNSWEEPABLE):
                steps.append(Step(row=row, trigger=Trigger.GROW, changes=self._grown(row, item)))
            else:
                continue  # on its way: the next sweep of this address takes these
            pairs += [(deposit_id, row.id) for deposit_id in item.deposit_ids]
        await sweeps.open_many(uow, fresh, ids=lane.ids, at=lane.now())
        await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
        await sweepable.assign(uow, pairs)
        return bool(pairs), end

    def _grown(self, row: SweepRow, item: Unswept) -> dict[str, Any]:
        return {
            "amount": row.amount_minor + item.amount_minor,
            "deposits": row.deposits + len(item.deposit_ids),
            "oldest_at": min(row.oldest_at, item.oldest_at),
            "look_at": self._lane.now(),
            "code": None,
        }

    def _new(self, item: Unswept) -> SweepRow:
        now = self._lane.now()
        return SweepRow(
            id=self._lane.ids.new_id(),
            network=self._lane.network,
            brand=item.brand,
            address_id=item.address_id,
            address=item.address,
            key=item.key,
            asset=item.asset,
            amount_minor=item.amount_minor,
            moved_minor=None,
            deposits=len(item.deposit_ids),
            oldest_at=item.oldest_at,
            state=State.WAITING.value,
            code=None,
            reason=None,
            requested_by=None,
            version=1,
            tries=0,
            gas_attempt_id=None,
            attempt_id=None,
            txid=None,
            look_at=now,
            created_at=now,
            state_at=now,
        )

    # -- judging -------------------------------------------------------------------------------

    async def _judge(
        self,
        rows: Sequence[SweepRow],
        terms: Terms,
        native: Mapping[str, int],
        coded: frozenset[str],
    ) -> tuple[list[Wish], _Plan]:
        """What is due, and what happens to the rest. Asks a node about tokens that are due."""
        plan = _Plan(steps=[], notes=[])
        due: list[Wish] = []
        for row in rows:
            if row.key in coded:
                self._give_up(plan, row, HAS_CODE)
                continue
            verdict = self._verdict(row, terms, native, gas=self._expected_gas(row))
            if verdict.reason is not None:
                due.append(Wish(row=row, gas=self._expected_gas(row), verdict=verdict))
            else:
                self._wait(plan, row, verdict)
        wishes: list[Wish] = []
        accounts = await self._collector.accounts([wish.row.key for wish in due])
        for wish, gas in await self._asked(due):
            if gas is None:
                self._give_up(plan, wish.row, TRANSFER_FAILS)
                continue
            account = accounts.get(wish.row.key)
            verdict = self._verdict(wish.row, terms, native, gas=gas, account=account)
            if verdict.reason is None:
                self._wait(plan, wish.row, verdict)
            else:
                wishes.append(Wish(row=wish.row, gas=gas, verdict=verdict, account=account))
        return wishes, plan

    def _expected_gas(self, row: SweepRow) -> int:
        return TRANSFER_GAS if row.asset == self._lane.spec.native_asset else ESTIMATED_GAS

    def _verdict(
        self,
        row: SweepRow,
        terms: Terms,
        native: Mapping[str, int],
        *,
        gas: int,
        account: AccountState | None = None,
    ) -> Verdict:
        is_native = row.asset == self._lane.spec.native_asset
        lacks = not is_native and native[row.key] < gas * terms.rate
        if lacks and self._collector.is_in_force:
            gas, lacks = collecting.gas_of_one(self._lane, account), False
        offer = sweep_terms.offer(self._lane, terms, row, gas=gas, needs_top_up=lacks)
        if State(row.state) is State.GAS_READY:  # its top-up is paid for
            reason = sweep_choice.Reason(row.reason or sweep_choice.Reason.REQUEST)
            return Verdict(reason=reason)
        return sweep_choice.judge(offer, terms.policy.rule(row.asset), now=self._lane.now())

    async def _asked(self, due: Sequence[Wish]) -> list[tuple[Wish, int | None]]:
        """Each with its gas, None where a node says that the token would not move."""
        lane, found = self._lane, list[tuple[Wish, int | None]]()
        async with lane.database.unit_of_work() as uow:
            hot = await addresses.own_address(uow, network=lane.network, role="hot", lane=HOT_LANE)
        by_asset: dict[str, list[Wish]] = {}
        for wish in due:
            by_asset.setdefault(wish.row.asset, []).append(wish)
        for asset, wishes in sorted(by_asset.items()):
            if asset == lane.spec.native_asset:
                found += [(wish, wish.gas) for wish in wishes]
                continue
            told = await lane.chain.reader.transfer_gas(
                asset, [(wish.row.key, hot.key, wish.row.amount_minor) for wish in wishes]
            )
            found += list(zip(wishes, told, strict=True))
        return found

    def _wait(self, plan: _Plan, row: SweepRow, verdict: Verdict) -> None:
        """`failed` and `unsweepable` go back to waiting when nothing holds them any more."""
        now, state = self._lane.now(), State(row.state)
        if verdict.is_dust:
            self._give_up(plan, row, verdict.code or sweep_choice.UNECONOMIC)
        elif state is State.WAITING:
            plan.notes.append((row.id, verdict.code, now + WAIT))
        else:
            self._back(plan, row, verdict.code, now + WAIT)

    def _give_up(self, plan: _Plan, row: SweepRow, code: str) -> None:
        again = self._lane.now() + LOOK_AGAIN
        match State(row.state):
            case State.UNSWEEPABLE:
                plan.notes.append((row.id, code, again))
            case State.WAITING:
                changes = {"code": code, "look_at": again, "requested_by": None}
                plan.steps.append(Step(row=row, trigger=Trigger.GIVE_UP, changes=changes))
            case _:
                self._back(plan, row, code, self._lane.now())

    def _back(self, plan: _Plan, row: SweepRow, code: str | None, look_at: datetime) -> None:
        trigger = {
            State.FAILED: Trigger.RETRY,
            State.UNSWEEPABLE: Trigger.REVIVE,
            State.GAS_READY: Trigger.RECONSIDER,
        }[State(row.state)]
        plan.steps.append(
            Step(row=row, trigger=trigger, changes={**UNBOUND, "code": code, "look_at": look_at})
        )

    async def _commit_judged(self, plan: _Plan, judged: Sequence[SweepRow]) -> None:
        """What a person asked for meanwhile is judged anew, not put off."""
        lane, seen = self._lane, {row.id: row.look_at for row in judged}

        async def work(uow: Uow) -> None:
            ids = [step.row.id for step in plan.steps] + [note[0] for note in plan.notes]
            fresh = await store.by_ids(uow, ids)
            asked = {row.id for row in fresh if row.look_at != seen[row.id]}
            steps = [step for step in plan.steps if step.row.id not in asked]
            await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
            await store.note(uow, [note for note in plan.notes if note[0] not in asked])
            blocked = sorted(
                {
                    f"{step.row.asset} ({step.changes['code']})"
                    for step in steps
                    if step.changes.get("code") in (TRANSFER_FAILS, HAS_CODE)
                }
            )
            if blocked:
                detail = f"does not leave deposit addresses: {', '.join(blocked)}"
                await attempts.alarm(lane, uow, SWEEP_BLOCKED, detail)

        try:
            await lane.run(work)
        except StaleState as error:
            log.info("payout.sweep_stale", network=lane.network, detail=str(error))
            return
        lane.crash("payout.sweeps_judged")

    # -- planning ------------------------------------------------------------------------------

    async def _plan(self, uow: Uow, *, lot: Sequence[Wish], terms: Terms) -> bool:
        """One lot: by row a sweep, a top-up first, or a wait; decided again under the locks."""
        lane = self._lane
        if await self._is_stopped(uow):
            return False
        rows = {row.id: row for row in await store.by_ids(uow, [wish.row.id for wish in lot])}
        await sweepable.release(uow, sorted(rows))
        held = await sweepable.held(uow, sorted(rows))
        native = await self._native(uow, list(rows.values()))
        unassigned = await sweepable.unassigned(
            uow,
            network=lane.network,
            asset=lane.spec.native_asset,
            address_ids=[row.address_id for row in rows.values()],
        )
        own = await addresses.by_ids(uow, [row.address_id for row in rows.values()])
        hot = await addresses.own_address(uow, network=lane.network, role="hot", lane=HOT_LANE)
        station = await gas_station.open_station(lane, uow, terms)
        is_collecting = self._collector.is_in_force
        builder = Builder(lane, terms, station, hot, is_collecting=is_collecting)
        for wish in lot:
            row = rows[wish.row.id]
            if row.version != wish.row.version:
                continue  # somebody moved it: the next pass looks
            amount, count = held.get(row.id, (0, 0))
            free = native[row.key] - unassigned.get(row.address_id, 0)
            builder.add(row, wish, own[row.address_id], amount, count, free)
        return await builder.commit(uow)
