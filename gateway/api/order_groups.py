"""Orders that wait together are accepted in one unit of work (ADR 0029).

Owns which orders go together and which are left out. Only a plain new order goes with others: it
is the first with its key, nonce and request_id, nothing about it is malformed or stopped, and
nobody holds its player. Whatever is left out is done by itself as if there were no groups, and so
gets its verdict where that always was made. A group that fails for a reason of its own stores
nothing, and then each of its orders is done by itself. It must not decide about money: that is
`payouts.acceptance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from config.database import LOCK_TIMEOUT_MS, Conflict, Uow, is_away, is_lock_timeout
from config.logs import get_logger
from gateway import idempotency
from gateway.api import order_groups_store as store
from gateway.api import orders, wire_objects
from gateway.api.dispatch import encode, print_of
from gateway.api.endpoint import Call, Ticket
from gateway.api.order_groups_store import Claim, Standing
from gateway.api.wire_objects import Withdrawal
from gateway.api.wire_resources import WithdrawalIn
from gateway.errors import Refusal
from gateway.gathering import Onward
from gateway.idempotency import StoredAnswer
from gateway.payouts import acceptance
from gateway.payouts.acceptance import BalanceMode, Order
from gateway.payouts.limits import LimitTerms
from gateway.payouts.withdrawals import withdrawal_snapshot
from ledger import balances, lifecycle
from watchers import addresses, switches
from watchers.chain import Destination
from watchers.switches import Action

GROUP_MAX = 100  # orders; below the 200 reservations of one statement
WAITING_MAX = 2_000  # orders of one key; more are told to come again
CLAIM_WAIT_MS = 200  # for who adds the same player or uses the same key now; then each by itself
STATUS = 202

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of an order; `body` is the JSON of an answer that is stored with its key."""

    withdrawal: Withdrawal
    body: bytes


async def join(ticket: Ticket) -> bytes | None:
    """The answer to an order from its group, or None: it is to be done by itself."""
    found = await ticket.services.orders.join(ticket.caller.principal.key_id, ticket)
    return None if found is None else bytes(found.body)


def player_of(ticket: Ticket) -> str:
    """Whose order it is: a player's second one waits for the group of the first, whose lock it
    would not get."""
    return str(ticket.body.player_id)


def _alone() -> None:
    """Nobody waits for this group to go on."""


async def run_group(
    tickets: Sequence[Ticket],
    onward: Onward = _alone,
    *,
    is_ordered: bool = False,
    batch_id: UUID | None = None,
) -> list[Accepted | None]:
    """Accept orders of one key in one unit of work; None is one that is to be done by itself.

    With `is_ordered` the answers end at the first whose player somebody holds: those behind it
    wait for it. Raises what says that the database is away: then the outcome is not known.
    """
    services, brand = tickets[0].services, tickets[0].brand
    work = partial(
        _accept, tickets=tickets, onward=onward, is_ordered=is_ordered, batch_id=batch_id
    )
    session = {
        **lifecycle.acting(tickets[0].caller.principal.key_id),
        "lock_timeout": str(CLAIM_WAIT_MS),
    }
    try:
        return await services.database.run(work, brand=brand, session=session)
    except Exception as error:  # the supervisor of a group: one of them may be the cause
        if is_away(error):
            raise
        # Taken meanwhile, or waited for too long, is everyday life; anything else is a bug of ours.
        is_usual = isinstance(error, Conflict) or is_lock_timeout(error)
        tell = log.info if is_usual else log.exception
        tell("orders.group_failed", orders=len(tickets), error=type(error).__name__)
        return [None] * len(tickets)  # nothing is stored, and the others must not suffer from it


async def _accept(
    uow: Uow,
    *,
    tickets: Sequence[Ticket],
    onward: Onward,
    is_ordered: bool,
    batch_id: UUID | None,
) -> list[Accepted | None]:
    services, brand = tickets[0].services, tickets[0].brand
    principal = tickets[0].caller.principal
    at = services.clock.now()
    free = await balances.try_lock_players(
        uow, brand=brand, players=[ticket.body.player_id for ticket in tickets]
    )
    if is_ordered:
        held = (n for n, ticket in enumerate(tickets, 1) if ticket.body.player_id not in free)
        tickets = tickets[: next(held, len(tickets))]
    standing = await _standing(uow, tickets)
    plain = await _plain(
        [
            (number, ticket.call(uow, at=at))
            for number, ticket in _first_of_their_names(tickets, standing)
            if ticket.body.player_id in free and standing.balance_mode is not None
        ],
        batch_id,
    )
    found: list[Accepted | None] = [None] * len(tickets)
    if not plain:
        return found
    await _claim(uow, [tickets[number] for number, _ in plain])
    onward()  # what is left ends at the brand's sums and clearing, which one group has at a time
    rows = await acceptance.accept_many(
        uow,
        [order for _, order in plain],
        balance_mode=BalanceMode(str(standing.balance_mode)),
        terms=LimitTerms.of(services.registry),
        ids=services.ids,
        at=at,
    )
    for (number, _), row in zip(plain, rows, strict=True):
        wire = wire_objects.withdrawal(withdrawal_snapshot(row), context=services.wire)
        found[number] = Accepted(withdrawal=wire, body=encode(wire))
    await idempotency.finish_many(
        uow,
        scope=idempotency.scope_of(key_id=principal.key_id, brand=principal.brand),
        answers={
            ticket.key: StoredAnswer(status=STATUS, body=answer.body)
            for ticket, answer in zip(tickets, found, strict=True)
            if ticket.key is not None and answer is not None
        },
    )
    return found


async def _standing(uow: Uow, tickets: Sequence[Ticket]) -> Standing:
    principal = tickets[0].caller.principal
    keyed = [ticket for ticket in tickets if ticket.key is not None]
    return await store.standing(
        uow,
        scope=idempotency.scope_of(key_id=principal.key_id, brand=principal.brand),
        key_id=principal.key_id,
        brand=tickets[0].brand,
        keys=[str(ticket.key) for ticket in keyed],
        nonces=[ticket.caller.nonce for ticket in keyed],
        request_ids=[ticket.body.request_id for ticket in tickets],
    )


def _first_of_their_names(
    tickets: Sequence[Ticket], standing: Standing
) -> list[tuple[int, Ticket]]:
    """Those whose key, nonce and request_id stand for nothing, neither stored nor before them."""
    keys, nonces = set(standing.keys), set(standing.nonces)
    request_ids = set(standing.request_ids)
    found = []
    for number, ticket in enumerate(tickets):
        is_first = ticket.body.request_id not in request_ids
        if ticket.key is not None:
            is_first = is_first and ticket.key not in keys and ticket.caller.nonce not in nonces
            keys.add(ticket.key)
            nonces.add(ticket.caller.nonce)
        request_ids.add(ticket.body.request_id)
        if is_first:
            found.append((number, ticket))
    return found


async def _plain(
    calls: Sequence[tuple[int, Call]], batch_id: UUID | None
) -> list[tuple[int, Order]]:
    """Those that nothing is wrong with, as orders."""
    if not calls:
        return []
    uow, services = calls[0][1].uow, calls[0][1].services
    assets = services.registry.assets
    targets: list[tuple[int, Call, WithdrawalIn, Destination]] = [
        (number, call, call.body, call.prepared)
        for number, call in calls
        if call.body.asset in assets
    ]
    own = await addresses.of_the_house(
        uow, [(assets[body.asset].network, target.key) for _, _, body, target in targets]
    )
    stopped = {
        network: await switches.stopped(uow, network=network, action=Action.ACCEPT)
        for network in sorted({assets[body.asset].network for _, _, body, _ in targets})
    }
    market = await orders.market_of(calls[0][1], [body for _, _, body, _ in targets])
    found = []
    for number, call, body, target in targets:
        network = assets[body.asset].network
        if (network, target.key) in own or stopped[network].covers(body.asset):
            continue
        try:
            order = orders.order_of(call, body, target, market=market, batch_id=batch_id)
        except Refusal:
            continue  # it is refused where it is done by itself
        found.append((number, order))
    return found


async def _claim(uow: Uow, tickets: Sequence[Ticket]) -> None:
    """Nonces and keys, as every call takes them. Raises Conflict where one was taken meanwhile."""
    principal = tickets[0].caller.principal
    claims = [
        Claim(
            nonce=ticket.caller.nonce,
            nonce_expires_at=ticket.caller.nonce_expires_at,
            key=ticket.key,
            print_=print_of(ticket.caller, ticket.raw_body),
        )
        for ticket in tickets
        if ticket.key is not None
    ]
    if not claims:  # of a batch, which has one key for all
        await uow.limit_waiting(None)
        return
    is_taken = await store.claim(
        uow,
        claims,
        scope=idempotency.scope_of(key_id=principal.key_id, brand=principal.brand),
        key_id=principal.key_id,
        wait_ms=LOCK_TIMEOUT_MS,
        at=tickets[0].services.clock.now(),
    )
    if not is_taken:
        raise Conflict
