"""Engine, unit of work and the bounded retry. Owns connections; contains no SQL of any schema.

One unit of work (`Uow`) is one database transaction = one set of state changes with their postings
and events (HOUSE, sentence 4). Functions take `uow` first and never commit; only edges open one.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy import TextClause, event, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from config.clock import Clock, SystemClock

T = TypeVar("T")

ALL_BRANDS = "*"
RETRY_LIMIT = 8  # whole units of work; conflicts on hot rows resolve well below this
RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock
LOCK_NOT_AVAILABLE = "55P03"  # a lock was waited for longer than its limit
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
TRUSTED_SECONDS = 10.0  # a connection that served so lately and whose socket stands is not asked
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000  # a frozen process must not hold a lease's row for longer
NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})
NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_SET = (
    "SELECT set_config(s.name, s.value, true)"
    " FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS s (name, value)"
)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)", re.ASCII)

_KINDS: Final = (
    (asyncpg.IntegrityConstraintViolationError, IntegrityError),
    (asyncpg.SyntaxOrAccessError, ProgrammingError),
    (asyncpg.InterfaceError, InterfaceError),
)


class Conflict(Exception):
    """Another unit of work moved what this one read; running it again as a whole reads anew."""


class Uow:
    """One open database transaction. Thin: SQL text stays in the store modules."""

    __slots__ = ("_connection", "_driver")

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._driver: Any = None

    @property
    def connection(self) -> AsyncConnection:
        """The SQLAlchemy connection, for store modules only."""
        return self._connection

    async def execute(
        self, statement: TextClause | str, parameters: Any = None
    ) -> CursorResult[Any]:
        """Run one statement of a store module."""
        clause = _clause(statement) if isinstance(statement, str) else statement
        return await self._connection.execute(clause, parameters)

    async def rows(
        self, statement: str, parameters: Mapping[str, Any] = NO_PARAMETERS
    ) -> list[dict[str, Any]]:
        """Run one statement of a store module by the driver alone, and return its rows.

        For what runs for each order: it takes a quarter of the CPU of `execute`. Errors are those
        of `execute`.
        """
        if self._driver is None:  # its transaction is open: whoever opened this has used it
            raw = await self._connection.get_raw_connection()
            self._driver = raw.driver_connection
        driver = self._driver
        text, names = _positional(statement)
        try:
            found = await driver.fetch(text, *[parameters[name] for name in names])
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            lost = driver.is_closed()
            raise _kind_of(error)(statement, None, error, connection_invalidated=lost) from error
        return [dict(row) for row in found]

    async def limit_waiting(self, milliseconds: int | None) -> None:
        """Wait at most so long for each lock from here on; None: as long as always."""
        limit = LOCK_TIMEOUT_MS if milliseconds is None else milliseconds
        await self.rows("SELECT set_config('lock_timeout', :limit, true)", {"limit": str(limit)})


def _kind_of(error: Exception) -> type[DBAPIError]:
    """The class that SQLAlchemy's dialect gives an error of the driver."""
    return next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), DBAPIError)


@lru_cache(maxsize=2_048)
def _clause(statement: str) -> TextClause:
    """The parsed form of a statement, made once: stores repeat themselves."""
    return text(statement)


@lru_cache(maxsize=2_048)
def _positional(statement: str) -> tuple[str, tuple[str, ...]]:
    """A statement as the driver takes it, and the names of its parameters in their order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _PARAMETER.sub(number, statement), tuple(names)


class Database:
    """The engine of one process under one database role."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        application_name: str = "cage",
        settings: Mapping[str, str] = NO_SETTINGS,
        clock: Clock | None = None,
    ) -> None:
        """`settings` are further parameters of the server for each connection."""
        self._url = url
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_use_lifo=True,  # few warm connections, with their plans, before many cold ones
            pool_timeout=10,  # seconds; a starved pool is back-pressure, not a hang
            connect_args={
                "timeout": 10,
                "server_settings": {
                    "application_name": application_name,
                    "timezone": "UTC",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
                    **settings,
                },
            },
        )
        liveness = _Liveness(clock or SystemClock())
        event.listen(self.engine.sync_engine, "checkin", liveness.returned)
        event.listen(self.engine.sync_engine, "checkout", liveness.taken)

    @asynccontextmanager
    async def unit_of_work(
        self, *, brand: str = ALL_BRANDS, session: Mapping[str, str] = NO_SETTINGS
    ) -> AsyncIterator[Uow]:
        """Open one READ COMMITTED transaction; commit at the end, roll back on any exception.

        `brand` is what row-level security lets this unit of work see ("*" = every brand, for
        operator principals and daemons whose role permits it). `session` are further settings of
        this unit of work, which cost no statement of their own.
        """
        async with self.engine.begin() as connection:
            await connection.execute(
                _clause(_SET),
                {"names": ["cage.brand", *session], "values": [brand, *session.values()]},
            )
            yield Uow(connection)

    @asynccontextmanager
    async def snapshot(self, *, brand: str = ALL_BRANDS) -> AsyncIterator[Uow]:
        """Open one REPEATABLE READ, READ ONLY transaction: every statement sees the same moment,
        and nobody waits for it."""
        async with self.engine.begin() as connection:
            await connection.execute(
                text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            )
            await connection.execute(
                text("SELECT set_config('cage.brand', :brand, true)"), {"brand": brand}
            )
            yield Uow(connection)

    async def run(
        self,
        work: Callable[[Uow], Awaitable[T]],
        *,
        brand: str = ALL_BRANDS,
        session: Mapping[str, str] = NO_SETTINGS,
    ) -> T:
        """Run `work` in a unit of work; whole again on 40001/40P01 and Conflict, RETRY_LIMIT."""
        for attempt in range(RETRY_LIMIT):
            try:
                async with self.unit_of_work(brand=brand, session=session) as uow:
                    return await work(uow)
            except Conflict:
                if attempt == RETRY_LIMIT - 1:
                    raise
            except DBAPIError as error:
                if sqlstate(error) not in RETRYABLE_SQLSTATES or attempt == RETRY_LIMIT - 1:
                    raise
        raise RuntimeError("unreachable: the last attempt returns or raises")

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


class _Liveness:
    """Has the pool replace what is lost, before it is used: that connection and all older ones.

    The event loop hears of a server that closed one; only one that idled is asked, for what was
    cut without a word. SQLAlchemy's own question costs each unit of work three statements.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def returned(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """Back in the pool; None is one that broke."""
        if connection is not None:
            record.info["served_at_seconds"] = self._clock.monotonic_seconds()

    def taken(self, connection: Any, record: ConnectionPoolEntry, _fairy: Any) -> None:
        """Raises what makes the pool try another."""
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        served_at_seconds = record.info.get("served_at_seconds")
        if served_at_seconds is None:
            return  # new
        if self._clock.monotonic_seconds() - served_at_seconds < TRUSTED_SECONDS:
            return
        try:
            connection.ping()
        except (connection.dbapi.Error, OSError) as error:
            raise InvalidatePoolError from error


AWAY_CLASSES = ("08", "53", "57P")
"""SQLSTATE: connection lost, resources short (disk full is 53100), shutting down or starting."""


AWAY: Final = (DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""Everything that `is_away` may be asked about; the last one has TimeoutError in it."""


def is_away(error: BaseException) -> bool:
    """Whether the database did not serve at all; anything else that it says is a bug of ours.

    While the server starts, the driver's own errors come through unwrapped, a missing Unix socket
    as FileNotFoundError.
    """
    if isinstance(error, OSError | TimeoutError | PoolTimeout | OperationalError | InterfaceError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (sqlstate(error) or "").startswith(AWAY_CLASSES)
    return str(getattr(error, "sqlstate", "") or "").startswith(AWAY_CLASSES)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a lock was waited for longer than its limit; nothing of the unit of work stands."""
    return isinstance(error, DBAPIError) and sqlstate(error) == LOCK_NOT_AVAILABLE


def sqlstate(error: DBAPIError) -> str | None:
    """The SQLSTATE behind a driver error, if it has one."""
    value = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return value if isinstance(value, str) else None


def async_url(url: str) -> str:
    """`postgresql://...` as the asyncpg dialect of SQLAlchemy wants it."""
    for prefix in ("postgresql+asyncpg://", "postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+asyncpg://" + url[len(prefix) :]
    raise ValueError("database url: it must start with postgresql://")
