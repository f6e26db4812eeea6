"""Exposure caps: how much play money may rest on deposits that are not final (CONTRACT 4).

Owns which deposits may become `provisional` now, and what counts: provisional value, and orphaned
value that was provisional or final. Values are minor units of the reference currency at the rate of
the moment of the credit, rounded up. One usage row per scope is locked in the unit of work of the
credit, after the players' locks, so that no two watchers share the same room. It moves no state:
who is admitted must become `provisional` in the same unit of work.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config import alarm_store
from config.credit_policy import CreditPolicy, Scope
from config.database import Uow
from config.logs import get_logger
from watchers import exposure_store as store
from watchers import policies, rates
from watchers.deposits import DepositRow, DepositState
from watchers.network import Network
from watchers.rates import Rate

SUBSTATUS = "exposure_cap"
STALE_ALARM = "rate_stale"
WAITING_MAX = 1_000  # older ones of the network that a younger one may not overtake

log = get_logger("watchers.exposure")

Key = tuple[Scope, str, str]
"""A scope: its kind, its brand, its subject (player, asset, or empty)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A deposit that asks for room; `value_minor` None: no fresh rate, so no cap has room."""

    id: UUID
    brand: str
    player_id: str
    asset: str
    value_minor: int | None

    def scopes(self) -> tuple[Key, Key, Key]:
        """What it counts against, narrowest first."""
        return (
            (Scope.PLAYER, self.brand, self.player_id),
            (Scope.ASSET, self.brand, self.asset),
            (Scope.BRAND, self.brand, ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What stands in a scope. `is_known`: all of it has a value in the currency of today."""

    value_minor: int = 0
    is_known: bool = True

    def plus(self, value_minor: int | None) -> "Usage":
        """With one more deposit in it."""
        return Usage(
            value_minor=self.value_minor + (value_minor or 0),
            is_known=self.is_known and value_minor is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Usage rows and deposits disagree; `kind` is `sum`, `not counted` or `counts no longer`."""

    kind: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A deposit that is not asked for in this step, but must not be overtaken."""

    id: UUID
    brand: str
    player_id: str
    asset: str
    amount_minor: int
    first_seen_at: datetime


_Asker = DepositRow | _Waiting


def decide(
    candidates: Sequence[Candidate], usage: Mapping[Key, Usage], policy: CreditPolicy
) -> list[UUID]:
    """Who fits under every cap, in the order given (oldest first). Pure.

    Who does not fit now, but would alone, keeps its place: nobody younger passes it in the scope
    that refused it. Who is larger than the cap itself holds up nobody: it waits for its full tier.
    """
    standing = dict(usage)
    kept: set[Key] = set()
    admitted = []
    for item in candidates:
        refused = _refusal(item, standing, policy, kept)
        if refused is None:
            for key in item.scopes():
                standing[key] = standing.get(key, Usage()).plus(item.value_minor)
            admitted.append(item.id)
            continue
        cap = policy.cap(refused[0], brand=item.brand, asset=item.asset)
        if item.value_minor is not None and cap is not None and item.value_minor <= cap:
            kept.add(refused)
    return admitted


def _refusal(
    item: Candidate, standing: Mapping[Key, Usage], policy: CreditPolicy, kept: set[Key]
) -> Key | None:
    """The narrowest scope that has no room for it."""
    for key in item.scopes():
        cap = policy.cap(key[0], brand=item.brand, asset=item.asset)
        if cap is None:
            continue
        used = standing.get(key, Usage())
        if item.value_minor is None or not used.is_known or key in kept:
            return key
        if used.value_minor + item.value_minor > cap:
            return key
    return None


async def lock(uow: Uow, network: Network, deposits: Iterable[_Asker]) -> dict[Key, RowMapping]:
    """The usage rows of these deposits, locked sorted; the players' locks are held already.

    `admit`, `release` and `keep` take it themselves. A step that calls several of them for several
    brands calls it first with all its deposits, so that two networks never lock crosswise.
    """
    keys = sorted(
        {
            key
            for item in deposits
            for key in (
                ("player", item.brand, item.player_id),
                ("asset", item.brand, item.asset),
                ("brand", item.brand, ""),
            )
        }
    )
    if not keys:
        return {}
    rows = await store.lock_usage(uow, keys, currency=network.reference.currency)
    return {(Scope(row["scope"]), row["brand"], row["subject"]): row for row in rows}


async def admit(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> frozenset[UUID]:
    """Which of these pending deposits may become `provisional` now; they count from here on.

    Oldest first, those that wait already before all. The refused stay `pending` with substatus
    `exposure_cap`. Without a cap every deposit is admitted, a rate or none. Deposits in another
    state than `pending` ask for nothing.
    """
    deposits = [item for item in deposits if item.state is DepositState.PENDING]
    if not deposits:
        return frozenset()
    policy = await policies.current(uow, assets=network.assets, reference=network.reference)
    others = [] if not policy.caps else await _others_waiting(uow, network, deposits)
    everyone: list[_Asker] = [*deposits, *others]
    rows = await lock(uow, network, everyone)
    known = await store.counted(uow, [item.id for item in deposits])
    asking = {item.id: item for item in deposits if item.id not in known}
    queue: list[_Asker] = [*asking.values(), *others]
    queue.sort(key=lambda item: (item.first_seen_at, item.id))
    fresh = await rates.fresh(
        uow, assets={item.asset for item in queue}, reference=network.reference, at=at
    )
    usage = {key: _usage(row, network) for key, row in rows.items()}
    fits = decide([_candidate(network, item, fresh) for item in queue], usage, policy)
    admitted = [item for item_id in fits if (item := asking.get(item_id)) is not None]
    await _count(uow, network, admitted, rows, fresh, at=at)
    taken = {item.id for item in admitted}
    refused = [item.id for item in asking.values() if item.id not in taken]
    waited = [item.id for item in admitted if item.substatus == SUBSTATUS]
    await store.set_capped(uow, refused=refused, admitted=waited)
    if refused:
        log.info("exposure.capped", network=network.name, count=len(refused))
    if policy.caps:
        without = {item.asset for item in asking.values() if item.id not in taken} - set(fresh)
        await _tell_stale(uow, network, sorted(without), at=at)
    return frozenset(taken | known)


async def release(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> int:
    """These count no longer: final, reversed, on hold. Returns how many did; again is nothing."""
    if not deposits:
        return 0
    await lock(uow, network, deposits)
    return await store.remove(uow, [item.id for item in deposits])


async def keep(uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime) -> None:
    """Make the count right for deposits as they stand after their step, whatever it was.

    An orphaned deposit that was `final` counts again, cap or no cap; who left the counting states
    is released. A step that calls this with all that it moved needs no `release`.
    """
    if not deposits:
        return
    rows = await lock(uow, network, deposits)
    known = await store.counted(uow, [item.id for item in deposits])
    gone = [item.id for item in deposits if item.id in known and not counts(item)]
    new = [item for item in deposits if item.id not in known and counts(item)]
    if gone:
        await store.remove(uow, gone)
    fresh = await rates.fresh(
        uow, assets={item.asset for item in new}, reference=network.reference, at=at
    )
    await _count(uow, network, new, rows, fresh, at=at)


async def waiting(uow: Uow, network: Network, limit: int) -> Sequence[UUID]:
    """Deposits that a full cap keeps pending, oldest first: `admit` is asked for them again."""
    rows = await store.waiting(uow, network=network.name, limit=limit)
    return [row["id"] for row in rows]


async def check(uow: Uow) -> list[Difference]:
    """Where the usage rows differ from the sum over the deposits; empty when all is well."""
    rows = await store.differences(uow)
    return [Difference(kind=row["kind"], subject=row["subject"]) for row in rows]


def counts(deposit: DepositRow) -> bool:
    """Whether a deposit counts against the caps as it stands."""
    if deposit.state is DepositState.ORPHANED:
        return deposit.prior_state in (DepositState.PROVISIONAL, DepositState.FINAL)
    return deposit.state is DepositState.PROVISIONAL


async def _others_waiting(
    uow: Uow, network: Network, asked: Sequence[DepositRow]
) -> list[_Waiting]:
    """Those of the same brands that are not asked for: they keep their place, and wait on."""
    ids, brands = {item.id for item in asked}, {item.brand for item in asked}
    rows = await store.waiting(uow, network=network.name, limit=WAITING_MAX)
    return [
        _Waiting(
            **{name: row[name] for name in _Waiting.__slots__ if name != "amount_minor"},
            amount_minor=int(row["amount"]),
        )
        for row in rows
        if row["id"] not in ids and row["brand"] in brands
    ]


async def _tell_stale(uow: Uow, network: Network, assets: Sequence[str], *, at: datetime) -> None:
    """An open alarm while somebody waits for want of a fresh rate; asked again with each step."""
    if not assets:
        await alarm_store.clear(uow, kinds=[STALE_ALARM], network=network.name, at=at)
        return
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=STALE_ALARM,
        network=network.name,
        detail=f"no fresh rate of {', '.join(assets)}: caps are full, deposits wait for final",
        at=at,
    )


def _candidate(network: Network, item: _Asker, fresh: Mapping[str, Rate]) -> Candidate:
    return Candidate(
        id=item.id,
        brand=item.brand,
        player_id=item.player_id,
        asset=item.asset,
        value_minor=rates.value(
            network.asset(item.asset),
            item.amount_minor,
            fresh.get(item.asset),
            reference=network.reference,
        ),
    )


def _usage(row: RowMapping, network: Network) -> Usage:
    is_ours = row["currency"] == network.reference.currency
    return Usage(value_minor=int(row["value"]), is_known=is_ours and not row["unvalued"])


async def _count(
    uow: Uow,
    network: Network,
    deposits: Sequence[DepositRow],
    locked: Mapping[Key, RowMapping],
    fresh: Mapping[str, Rate],
    *,
    at: datetime,
) -> None:
    """Rows and sums. A scope that still counts in another currency takes no value of ours."""
    if not deposits:
        return
    currency = network.reference.currency
    foreign = {key for key, row in locked.items() if row["currency"] != currency}
    rows = []
    for item in deposits:
        candidate = _candidate(network, item, fresh)
        value = None if foreign & set(candidate.scopes()) else candidate.value_minor
        rows.append(
            {
                "id": item.id,
                "network": network.name,
                "brand": item.brand,
                "player": item.player_id,
                "asset": item.asset,
                "currency": currency,
                "value": value,
                "rate": None if value is None else fresh[item.asset].id,
            }
        )
    await store.add(uow, rows, at=at)
