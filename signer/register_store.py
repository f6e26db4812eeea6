"""Rows about who is trusted: client keys and staff keys. Only SQL and its shapes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from signer.store import Store


class KeyState(StrEnum):
    """Where a client key stands."""

    TRUSTED = "trusted"
    """Its signature pays."""
    FROZEN = "frozen"
    """Signs nothing until two people unfreeze it."""
    REVOKED = "revoked"
    """Signs nothing new for ever; families it began may be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCap:
    """What one key may order of one asset, in minor units."""

    tx_minor: int
    day_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A client key. The keys of `caps` are the assets it may order; `expires_at` in seconds."""

    keyid: str
    public_key: bytes
    brand: str
    caps: Mapping[str, KeyCap]
    expires_at: int
    state: KeyState


def client_key(store: Store, keyid: str) -> ClientKey | None:
    """One key of the register."""
    rows = store.rows(
        "SELECT keyid, public_key, brand, caps, expires_at, state FROM client_keys WHERE keyid = ?",
        (keyid,),
    )
    if not rows:
        return None
    row = rows[0]
    caps = {
        asset: KeyCap(tx_minor=int(cap[0]), day_minor=int(cap[1]))
        for asset, cap in json.loads(row[3]).items()
    }
    return ClientKey(
        keyid=row[0],
        public_key=row[1],
        brand=row[2],
        caps=caps,
        expires_at=row[4],
        state=KeyState(row[5]),
    )


def add_client_key(store: Store, key: ClientKey) -> None:
    """Insert a key that is not there yet."""
    caps = {asset: [str(cap.tx_minor), str(cap.day_minor)] for asset, cap in key.caps.items()}
    store.execute(
        "INSERT INTO client_keys VALUES (?, ?, ?, ?, ?, ?)",
        (
            key.keyid,
            key.public_key,
            key.brand,
            json.dumps(caps, sort_keys=True),
            key.expires_at,
            key.state.value,
        ),
    )


def set_client_key_state(store: Store, *, keyid: str, state: KeyState) -> None:
    """Change the state of a key that is there."""
    store.execute("UPDATE client_keys SET state = ? WHERE keyid = ?", (state.value, keyid))


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffKey:
    """A person's key: what they sign counts while it is trusted."""

    name: str
    public_key: bytes
    state: KeyState


def staff(store: Store) -> dict[str, StaffKey]:
    """Everybody who was ever on the staff, by name."""
    rows = store.rows("SELECT name, public_key, state FROM staff_keys ORDER BY name")
    return {
        row[0]: StaffKey(name=row[0], public_key=row[1], state=KeyState(row[2])) for row in rows
    }


def staff_keys(store: Store) -> dict[str, bytes]:
    """Name to Ed25519 public key of the people whose signature counts now."""
    found = staff(store).values()
    return {item.name: item.public_key for item in found if item.state is KeyState.TRUSTED}


def set_staff_state(store: Store, *, name: str, state: KeyState) -> None:
    """Change the state of a person's key that is there."""
    store.execute("UPDATE staff_keys SET state = ? WHERE name = ?", (state.value, name))


def is_client_key(store: Store, public_key: bytes) -> bool:
    """Whether a client, in whatever state, has this key."""
    return bool(store.rows("SELECT 1 FROM client_keys WHERE public_key = ?", (public_key,)))


def add_staff_key(store: Store, *, name: str, public_key: bytes) -> None:
    """Insert a staff key; a name or key that is there raises StoreError by its constraint."""
    store.execute("INSERT INTO staff_keys (name, public_key) VALUES (?, ?)", (name, public_key))


def is_halted(store: Store) -> bool:
    """Whether a person stopped every signature."""
    return bool(store.rows("SELECT 1 FROM halts"))


def set_halted(store: Store, *, is_halted: bool) -> None:
    """Stop every signature, or let them go on."""
    if is_halted:
        store.execute(
            "INSERT INTO halts VALUES ('signer', ?) ON CONFLICT DO NOTHING", (store.sequence + 1,)
        )
    else:
        store.execute("DELETE FROM halts")


def is_statement_used(store: Store, digest: str) -> bool:
    """Whether a staff statement has had its effect already."""
    return bool(store.rows("SELECT 1 FROM used_statements WHERE digest = ?", (digest,)))


def use_statement(store: Store, digest: str) -> None:
    """A statement has its effect once."""
    store.execute("INSERT INTO used_statements VALUES (?)", (digest,))
