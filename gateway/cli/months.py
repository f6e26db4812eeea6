"""Takes an old month out of what was told (`cage db detach`), as the owner of the database.

Nothing is dropped (HOUSE 7): the rows stay in tables of that month, which nobody may change any
more, for the owner to copy elsewhere.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.cli.console import REFUSED, USAGE, CliError

if TYPE_CHECKING:
    from config.settings import Settings

KEPT_DAYS = 92  # after its end: longer than any delivery is tried, and than a quarter's questions
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)


def month_of(text: str, *, at: datetime) -> datetime:
    """The first moment of a month that may be put away at `at`; CliError says why it may not."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise CliError(f"{text} is no month", hint="write it as 2026-01", code=USAGE)
    first = datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)
    free = (first + timedelta(days=32)).replace(day=1) + timedelta(days=KEPT_DAYS)
    if at < free:
        raise CliError(f"{text} may be detached from {free.date()} on", code=REFUSED)
    return first


async def detach_month(settings: "Settings", month: datetime, *, actor: str) -> list[str]:
    """Each table in a unit of work of its own; which tables hold the month now. Safe to repeat:
    what an earlier run took out is left alone. CliError where something of it still waits, or
    where somebody holds a table for longer than is waited for."""
    from sqlalchemy.exc import DBAPIError

    from config import month_store as store
    from config.database import Database, async_url, sqlstate
    from ledger.lifecycle import acting

    database = Database(
        async_url(settings.owner_url()),
        pool_size=1,
        application_name="cage db detach",
        settings={"statement_timeout": "0"},  # it looks at each row of a month, and locks nothing
    )
    detached = []
    try:
        for table in store.DETACHABLE_TABLES:
            name = f"{table}_{month:%Y%m}"
            try:
                async with database.unit_of_work(session=acting(actor)) as uow:
                    is_taken = await store.detach(uow, table, month=month)
            except DBAPIError as error:
                if sqlstate(error) in store.BUSY:
                    raise CliError(
                        f"{name} is busy: it was waited for and left as it is",
                        hint="run the command again; what it took out before stays out",
                    ) from error
                if sqlstate(error) != store.REFUSED:
                    raise
                raise CliError(
                    f"{name} still has events to number or to deliver",
                    hint="see `cage deliveries`; what waits for a deleted endpoint does not count",
                    code=REFUSED,
                ) from error
            if is_taken:
                detached.append(name)
    finally:
        await database.close()
    return detached
