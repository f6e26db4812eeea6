"""Rows about cold addresses that people pinned. Only SQL and its shapes."""

from signer.store import Store


def pinned_at(store: Store, *, network: str, place: bytes) -> int | None:
    """When a place (a script, or an account's 20 bytes) was pinned, in seconds; None: it is not."""
    rows = store.rows("SELECT at FROM cold_pins WHERE network = ? AND place = ?", (network, place))
    return int(rows[0][0]) if rows else None


def add_pin(store: Store, *, network: str, place: bytes, address: str, at_seconds: int) -> None:
    """Pin a place that is not pinned."""
    store.execute(
        "INSERT INTO cold_pins VALUES (?, ?, ?, ?)", (network, place, address, at_seconds)
    )


def drop_pin(store: Store, *, network: str, place: bytes) -> None:
    """It counts no more; the log keeps that it did."""
    store.execute("DELETE FROM cold_pins WHERE network = ? AND place = ?", (network, place))
