"""Rows about orders that were given up. Only SQL and its shapes."""

from collections.abc import Sequence

from signer.store import Store


def voided(store: Store, requests: Sequence[tuple[str, str]]) -> list[str]:
    """The request ids of those (brand, request_id) that get no first signature any more."""
    found = store.rows_of(
        "SELECT request_id FROM asked JOIN voids USING (brand, request_id)", requests
    )
    return [str(row[0]) for row in found]


def void_sequence(store: Store, *, brand: str, request_id: str) -> int | None:
    """The log entry that made (brand, request_id) void, or None: it is not."""
    rows = store.rows(
        "SELECT sequence FROM voids WHERE brand = ? AND request_id = ?", (brand, request_id)
    )
    return int(rows[0][0]) if rows else None


def request_of(store: Store, *, brand: str, withdrawal: str) -> str | None:
    """The request_id that a signed cancel of this withdrawal id made void."""
    rows = store.rows(
        "SELECT request_id FROM voids WHERE brand = ? AND withdrawal = ?", (brand, withdrawal)
    )
    return str(rows[0][0]) if rows else None


def add_void(
    store: Store, *, brand: str, request_id: str, withdrawal: str | None, sequence: int
) -> None:
    """Remember one for ever; `withdrawal` is the id that a signed cancel named."""
    store.execute(
        "INSERT INTO voids VALUES (?, ?, ?, ?)", (brand, request_id, withdrawal, sequence)
    )
