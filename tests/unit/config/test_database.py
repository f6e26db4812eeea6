"""Which errors mean that the database did not serve (P08, P10), and which are bugs of ours."""

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from config.database import is_away


def wrapped(original: Exception, *, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    """A driver's error as SQLAlchemy hands it on."""
    return kind("SELECT 1", {}, original)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("the socket"),
        ConnectionRefusedError(),
        TimeoutError(),
        PoolTimeout(),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TooManyConnectionsError("full"),
        wrapped(asyncpg.AdminShutdownError("shutting down")),
        wrapped(asyncpg.DiskFullError("full")),
        wrapped(asyncpg.ConnectionDoesNotExistError("gone")),
        wrapped(OSError(), kind=OperationalError),
        wrapped(OSError(), kind=InterfaceError),
        DBAPIError("SELECT 1", {}, ValueError(), connection_invalidated=True),
    ],
    ids=lambda error: type(getattr(error, "orig", None) or error).__name__,
)
def test_p08_p10_database_that_does_not_serve_is_away(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ours"),
        KeyError("ours"),
        wrapped(asyncpg.UniqueViolationError("twice")),
        wrapped(asyncpg.UndefinedTableError("no table"), kind=ProgrammingError),
        asyncpg.InvalidPasswordError("wrong"),
    ],
    ids=lambda error: type(getattr(error, "orig", None) or error).__name__,
)
def test_everything_else_is_a_bug_of_ours(error: Exception) -> None:
    assert not is_away(error)
