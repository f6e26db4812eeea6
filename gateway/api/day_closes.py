"""`/v1/ledger/days`: the daily close, for the operator. A closed day is answered as it stands."""

import json
from datetime import date

from gateway import day_closes
from gateway.api import two_people
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_day_closes import DayChecked, DayOut, DayReport
from gateway.api.wire_query import Page, PageQuery, limit_of
from gateway.auth import PrincipalKind
from gateway.day_closes import DayClose
from gateway.errors import NotFound, invalid_field

READ = frozenset({"ledger:read"})
CLOSERS = frozenset({"finance", "treasury", "admin"})


@endpoint(
    "GET",
    "/v1/ledger/days",
    "Closed days, newest first.",
    answers=Page[DayOut],
    query=PageQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_days(call: Call) -> Page[DayOut]:
    """A page; the cursor is the last day on it."""
    _check_operator(call)
    limit = limit_of(call.query.limit)
    before = None if call.query.cursor is None else _day(call.query.cursor, field="cursor")
    found = await day_closes.find(call.uow, before=before, limit=limit)
    items = [DayOut.model_validate(_head(call, item)) for item in found]
    cursor = found[-1].day.isoformat() if len(found) == limit else None
    return Page[DayOut](items=items, next_cursor=cursor)


@endpoint(
    "GET",
    "/v1/ledger/days/{day}",
    "One closed day: opening, movements by kind, closing, fees, state of the reconciliation.",
    answers=DayReport,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_day(call: Call) -> DayReport:
    """404 for a day that is not closed."""
    return _report(call, await _found(call))


@endpoint(
    "GET",
    "/v1/ledger/days/{day}/check",
    "Whether the journal still says what the report of a closed day says.",
    answers=DayChecked,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def check_day(call: Call) -> DayChecked:
    """The journal is read from its beginning."""
    found = await _found(call)
    holds = await day_closes.check(call.uow, found)
    return DayChecked(day=found.day.isoformat(), sha256=found.sha256, holds=holds)


@endpoint(
    "POST",
    "/v1/ledger/days/{day}/close",
    "Close a UTC day that is over.",
    answers=DayReport,
    scopes=READ,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=CLOSERS,
    idempotency=Idempotency.OPTIONAL,
)
async def close_day(call: Call) -> Answer:
    """A closed one is answered as it stands; 409 `not_over`, `later_day_closed`."""
    two_people.check_operator(call, roles=CLOSERS, scopes=READ)
    made = await day_closes.close(
        call.uow,
        day=_day(call.path["day"], field="day"),
        networks=sorted(call.services.registry.chains),
        closed_by=call.principal.key_id,
        ids=call.services.ids,
        at=call.at,
    )
    return Answer(body=_report(call, made))


def _check_operator(call: Call) -> None:
    if call.one_brand is not None:
        raise NotFound


async def _found(call: Call) -> DayClose:
    _check_operator(call)
    found = await day_closes.get(call.uow, _day(call.path["day"], field="day"))
    if found is None:
        raise NotFound
    return found


def _day(text: str, *, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise invalid_field(field, "invalid", "A day is YYYY-MM-DD.") from error


def _head(call: Call, found: DayClose) -> dict[str, str | bool]:
    return {
        "day": found.day.isoformat(),
        "livemode": call.services.wire.livemode,
        "sha256": found.sha256,
        "previous_sha256": found.previous_sha256,
        "closed_by": found.closed_by,
        "closed_at": rfc3339(found.closed_at),
    }


def _report(call: Call, found: DayClose) -> DayReport:
    return DayReport.model_validate({**_head(call, found), "report": json.loads(found.report)})
