"""SQL of the floor of `signer.sign`: one durable row per batch."""

import sqlite3
from pathlib import Path


def answers(file: Path) -> sqlite3.Connection:
    """A database as durable as the signer's store."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE answers (question blob, answer blob)")
    connection.commit()
    return connection


def remember(connection: sqlite3.Connection, question: bytes, answer: bytes) -> None:
    """One row, committed and fsynced."""
    with connection:
        connection.execute("INSERT INTO answers VALUES (?, ?)", (question, answer))
