"""Rows about deposit paths and the players they belong to. Only SQL and its shapes."""

from dataclasses import dataclass

from signer.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A path of a network (CAIP-2) and its player, for ever."""

    network: str
    path: str
    brand: str
    player: str


def binding_of(store: Store, *, network: str, path: str) -> Binding | None:
    """Whose path this is, or None: nobody's yet."""
    rows = store.rows(
        "SELECT brand, player FROM bindings WHERE network = ? AND path = ?", (network, path)
    )
    if not rows:
        return None
    return Binding(network=network, path=path, brand=str(rows[0][0]), player=str(rows[0][1]))


def add_binding(store: Store, binding: Binding, *, sequence: int) -> None:
    """Remember one for ever; a path that has a player already is refused by the key."""
    store.execute(
        "INSERT INTO bindings VALUES (?, ?, ?, ?, ?)",
        (binding.network, binding.path, binding.brand, binding.player, sequence),
    )
