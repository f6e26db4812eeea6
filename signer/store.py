"""The signer's memory: one SQLite file, its exclusive lock and its anchor.

It owns every row the signer decides on and the log that chains them. A commit here is on disk (WAL,
`synchronous=FULL`: flushed at every commit) and its log head is in the anchor file, which lies
elsewhere, before any signature leaves. A store that is missing, copied, or older than its anchor
is refused. It must contain no rule about what may be signed.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from signer import audit
from signer.anchor import Anchor, AnchorFile
from signer.errors import StoreError
from signer.ports import Clock, Randomness

STORE_VERSION = 6
PAIRS_ASKED = 400  # of one query: below 999 values, which every SQLite takes
LOCK_MILLISECONDS = 2_000  # `verify` may be reading from another process

_LOG_IN_ORDER = "SELECT sequence, body, entry_hash FROM log ORDER BY sequence"
_VOIDS = """
CREATE TABLE voids (
    brand TEXT NOT NULL, request_id TEXT NOT NULL, withdrawal TEXT, sequence INTEGER NOT NULL,
    PRIMARY KEY (brand, request_id));
CREATE UNIQUE INDEX voids_withdrawal ON voids (brand, withdrawal) WHERE withdrawal IS NOT NULL;
CREATE TRIGGER void_is_for_ever BEFORE UPDATE ON voids
BEGIN SELECT RAISE(ABORT, 'void is for ever'); END;
CREATE TRIGGER void_is_kept BEFORE DELETE ON voids
BEGIN SELECT RAISE(ABORT, 'void is for ever'); END;
"""
_BINDINGS = """
CREATE TABLE bindings (
    network TEXT NOT NULL, path TEXT NOT NULL, brand TEXT NOT NULL, player TEXT NOT NULL,
    sequence INTEGER NOT NULL, PRIMARY KEY (network, path)) WITHOUT ROWID;
CREATE TRIGGER binding_is_for_ever BEFORE UPDATE ON bindings
BEGIN SELECT RAISE(ABORT, 'bound is for ever'); END;
CREATE TRIGGER binding_is_kept BEFORE DELETE ON bindings
BEGIN SELECT RAISE(ABORT, 'bound is for ever'); END;
"""
_STAFF = """
ALTER TABLE staff_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'trusted'
    CHECK (state IN ('trusted', 'frozen', 'revoked'));
CREATE TABLE reissues (
    brand TEXT NOT NULL, request_id TEXT NOT NULL, round INTEGER NOT NULL, family TEXT NOT NULL,
    PRIMARY KEY (brand, request_id, round)) WITHOUT ROWID;
CREATE INDEX reissues_family ON reissues (family);
CREATE INDEX paid_family ON paid (family);
CREATE TABLE questions (
    attempt_id TEXT PRIMARY KEY REFERENCES attempts, body BLOB NOT NULL);
CREATE TABLE halts (scope TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TRIGGER reissue_is_for_ever BEFORE UPDATE ON reissues
BEGIN SELECT RAISE(ABORT, 'reissued is for ever'); END;
CREATE TRIGGER reissue_is_kept BEFORE DELETE ON reissues
BEGIN SELECT RAISE(ABORT, 'reissued is for ever'); END;
"""
_COUNTED = """
CREATE INDEX spent_attempt ON spent (attempt_id);
"""
_PINS = """
CREATE TABLE cold_pins (
    network TEXT NOT NULL, place BLOB NOT NULL, address TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (network, place)) WITHOUT ROWID;
CREATE TRIGGER pin_is_not_changed BEFORE UPDATE ON cold_pins
BEGIN SELECT RAISE(ABORT, 'a pin is never made older'); END;
"""
_UPGRADES = {
    1: _VOIDS,
    2: _BINDINGS,
    3: _STAFF,
    4: _COUNTED,
    5: _PINS,
}  # what a store of this version lacks to be of the next one
_SCHEMA = """
CREATE TABLE meta (version INTEGER NOT NULL, store_id TEXT NOT NULL, fingerprint TEXT NOT NULL);
CREATE TABLE log (
    sequence INTEGER PRIMARY KEY, body TEXT NOT NULL, entry_hash TEXT NOT NULL UNIQUE);
CREATE TABLE staff_keys (name TEXT PRIMARY KEY, public_key BLOB NOT NULL UNIQUE);
CREATE TABLE used_statements (digest TEXT PRIMARY KEY);
CREATE TABLE client_keys (
    keyid TEXT PRIMARY KEY, public_key BLOB NOT NULL, brand TEXT NOT NULL, caps TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('trusted', 'frozen', 'revoked')));
CREATE TABLE epochs (network TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE attempts (
    attempt_id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, network TEXT NOT NULL,
    answer TEXT NOT NULL, txid TEXT, payments_hash TEXT, fee_rank TEXT, account TEXT,
    nonce INTEGER);
CREATE INDEX attempts_txid ON attempts (txid) WHERE txid IS NOT NULL;
CREATE INDEX attempts_nonce ON attempts (network, account, nonce) WHERE nonce IS NOT NULL;
CREATE TABLE paid (
    brand TEXT NOT NULL, request_id TEXT NOT NULL, family TEXT NOT NULL,
    PRIMARY KEY (brand, request_id));
CREATE TABLE families (
    family TEXT NOT NULL, attempt_id TEXT NOT NULL REFERENCES attempts,
    PRIMARY KEY (family, attempt_id));
CREATE TABLE attempt_outpoints (
    attempt_id TEXT NOT NULL REFERENCES attempts, outpoint TEXT NOT NULL,
    PRIMARY KEY (attempt_id, outpoint));
CREATE INDEX attempt_outpoints_outpoint ON attempt_outpoints (outpoint);
CREATE TABLE nonces (
    network TEXT NOT NULL, account TEXT NOT NULL, nonce INTEGER NOT NULL, family TEXT NOT NULL,
    PRIMARY KEY (network, account, nonce));
CREATE TABLE spent (
    scope TEXT NOT NULL, at INTEGER NOT NULL, amount TEXT NOT NULL, attempt_id TEXT NOT NULL);
CREATE INDEX spent_scope ON spent (scope, at);
CREATE TRIGGER log_is_append_only BEFORE UPDATE ON log
BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER log_is_kept BEFORE DELETE ON log
BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER paid_is_for_ever BEFORE UPDATE ON paid
BEGIN SELECT RAISE(ABORT, 'paid is for ever'); END;
CREATE TRIGGER paid_is_kept BEFORE DELETE ON paid
BEGIN SELECT RAISE(ABORT, 'paid is for ever'); END;
"""


def create_store(path: Path, anchor: Path, *, fingerprint: str, randomness: Randomness) -> None:
    """Make an empty store and its anchor; raises StoreError if either is there."""
    if path.exists() or anchor.exists():
        raise StoreError("a store or an anchor is there already; it is never overwritten")
    anchor.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store_id = randomness.token(16).hex()
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with _connect(path) as connection:
        connection.executescript(_SCHEMA + _VOIDS + _BINDINGS + _STAFF + _COUNTED + _PINS)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO meta VALUES (?, ?, ?)", (STORE_VERSION, store_id, fingerprint)
        )
        connection.execute("COMMIT")
    connection.close()
    first = Anchor(
        store_id=store_id, inode=path.stat().st_ino, sequence=0, entry_hash=audit.GENESIS_HASH
    )
    AnchorFile(anchor).create(first)


class Store:
    """An open, locked store. All methods are for one thread at a time."""

    def __init__(self, path: Path, anchor: Path, *, fingerprint: str, clock: Clock) -> None:
        """Open, lock and check against the anchor; raises StoreError."""
        self._path = path
        self._is_grouped = False
        self._anchor = AnchorFile(anchor)
        self._clock = clock
        self._held = ExitStack()
        try:
            self._held.callback(os.close, _lock(path))
            self._held.callback(os.close, _lock(anchor))
            self._open(fingerprint)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{path}: not a usable store: {error}") from error
        except StoreError:
            self.close()
            raise

    def _open(self, fingerprint: str) -> None:
        if not self._path.exists():
            raise StoreError(f"{self._path}: the store is missing")
        self._connection = _connect(self._path)
        self._held.callback(self._connection.close)
        version, store_id, owner = self._one("SELECT version, store_id, fingerprint FROM meta")
        if version not in {STORE_VERSION, *_UPGRADES} or owner != fingerprint:
            raise StoreError(f"{self._path}: of another version or another key set")
        self._store_id: str = store_id
        self._inode = self._path.stat().st_ino
        anchor = self._anchor.read()
        if anchor.store_id != store_id or anchor.inode != self._inode:
            raise StoreError(f"{self._path}: a copy, not the store that the anchor names")
        audit.check_contains(self.log_rows(), anchor.sequence, anchor.entry_hash)
        for older in range(version, STORE_VERSION):  # one unit each: it stands whole or not at all
            done = f"UPDATE meta SET version = {older + 1}"
            self._connection.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[older]} {done}; COMMIT;")
        self.sequence, self.entry_hash = self._last_entry()
        self._is_anchored = False
        self.ensure_anchored()

    def close(self) -> None:
        """Close the file and release the locks; a second call does nothing."""
        self._held.close()

    def ensure_anchored(self) -> None:
        """Bring the anchor to the log's head; raises StoreError: then nothing may be signed."""
        if self._is_anchored:
            if not self._anchor.exists():
                raise StoreError("the anchor is gone")
            return
        anchor = Anchor(
            store_id=self._store_id,
            inode=self._inode,
            sequence=self.sequence,
            entry_hash=self.entry_hash,
        )
        self._anchor.write(anchor)
        self._is_anchored = True

    @contextmanager
    def group(self) -> Iterator[None]:
        """Several units as one durable change, each whole or not at all: one commit, fsync and
        anchor. Nothing of it may be released before it ends. Raises StoreError: then none stands.
        """
        with self.unit_of_work():
            self._is_grouped = True
            try:
                yield
            finally:
                self._is_grouped = False

    @contextmanager
    def _grouped_unit(self) -> Iterator[None]:
        if not self._connection.in_transaction:  # a full disk rolls back by itself
            raise StoreError("the store gave the group up")
        try:
            self._connection.execute("SAVEPOINT unit")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK TO unit")
                self._connection.execute("RELEASE unit")
                self.sequence, self.entry_hash = self._last_entry()
                raise
            self._connection.execute("RELEASE unit")
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be written: {error}") from error

    @contextmanager
    def unit_of_work(self) -> Iterator[None]:
        """One durable change: commit, fsync, anchor. Raises StoreError if any part fails. Within a
        `group` the group's end makes it durable."""
        if self._is_grouped:
            with self._grouped_unit():
                yield
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.rollback()
                self.sequence, self.entry_hash = self._last_entry()
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._connection.rollback()
            self.sequence, self.entry_hash = self._last_entry()
            raise StoreError(f"the store cannot be written: {error}") from error
        self._is_anchored = False
        self.ensure_anchored()

    def append_log(self, kind: str, **fields: object) -> int:
        """Chain one entry inside the open unit of work; returns its sequence."""
        sequence = self.sequence + 1
        body = audit.entry_body(
            sequence=sequence,
            at_seconds=self._clock.now_seconds(),
            kind=kind,
            previous_hash=self.entry_hash,
            fields=fields,
        )
        entry_hash = audit.entry_hash(body)
        self.execute("INSERT INTO log VALUES (?, ?, ?)", (sequence, body, entry_hash))
        self.sequence, self.entry_hash = sequence, entry_hash
        return sequence

    def log_rows(self) -> Iterator[tuple[int, str, str]]:
        """The whole log in order: (sequence, body, entry hash)."""
        return iter(self._connection.execute(_LOG_IN_ORDER))

    def entry_hash_at(self, sequence: int) -> str | None:
        """The hash of one entry (of 0: the genesis), None where the log does not reach so far."""
        if sequence == 0:
            return audit.GENESIS_HASH
        found = self.rows("SELECT entry_hash FROM log WHERE sequence = ?", (sequence,))
        return str(found[0][0]) if found else None

    def log_after(self, sequence: int, *, limit: int) -> list[tuple[int, str, str]]:
        """At most `limit` entries after one, in order: (sequence, body, entry hash)."""
        found = self.rows(
            "SELECT sequence, body, entry_hash FROM log WHERE sequence > ? ORDER BY sequence"
            " LIMIT ?",
            (sequence, limit),
        )
        return [(int(row[0]), str(row[1]), str(row[2])) for row in found]

    def execute(self, sql: str, values: tuple[object, ...] = ()) -> None:
        """One statement of a topic's store functions (`*_store.py`)."""
        try:
            self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be written: {error}") from error

    def execute_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """One statement for each row of values."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be written: {error}") from error

    def rows_of(self, sql: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
        """All rows of a query over `asked (brand, request_id)`, which holds these pairs."""
        found = []
        for first in range(0, len(pairs), PAIRS_ASKED):
            part = pairs[first : first + PAIRS_ASKED]
            places = ", ".join(["(?, ?)"] * len(part))
            asked = f"WITH asked (brand, request_id) AS (VALUES {places}) "
            found += self.rows(asked + sql, tuple(chain.from_iterable(part)))
        return found

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query of a topic's store functions."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error

    def _one(self, sql: str) -> tuple[Any, ...]:
        row = self._connection.execute(sql).fetchone()
        if row is None:
            raise StoreError(f"{self._path}: holds no data")
        return tuple(row)

    def _last_entry(self) -> tuple[int, str]:
        rows = self.rows("SELECT sequence, entry_hash FROM log ORDER BY sequence DESC LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else (0, audit.GENESIS_HASH)


def read_log(path: Path) -> list[tuple[int, str, str]]:
    """The whole log of a store that no signer holds open for writing; raises StoreError."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT sequence, body, entry_hash FROM log ORDER BY sequence"
            )
            return rows.fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}")
        # A commit is one flush of what it appends; what is lost of it is seen by the anchor.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _lock(path: Path) -> int:
    target = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{target}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{target}: another signer runs on this key set") from error
    return descriptor
