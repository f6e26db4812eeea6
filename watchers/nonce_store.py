"""SQL of the next numbers of many accounts at once."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from config.database import Uow

_WANTED = (
    "unnest(CAST(:keys AS text[]), CAST(:counts AS bigint[]), CAST(:ids AS uuid[])) "
    "AS w (key, mined, id)"
)


def _values(network: str, wanted: Sequence[tuple[str, int, UUID]]) -> Mapping[str, object]:
    return {
        "network": network,
        "keys": [item[0] for item in wanted],
        "counts": [item[1] for item in wanted],
        "ids": [item[2] for item in wanted],
    }


async def lock_each(
    uow: Uow, *, network: str, wanted: Sequence[tuple[str, int, UUID]]
) -> dict[str, int]:
    """The next number never used of each (account, mined count, attempt), at least the mined count;
    the rows are there and locked, in the order of the keys."""
    found = await uow.rows(
        "INSERT INTO chain.nonces AS n (network, sender_key, next) "
        f"SELECT CAST(:network AS text), w.key, w.mined FROM {_WANTED} ORDER BY w.key "
        "ON CONFLICT (network, sender_key) DO UPDATE SET next = greatest(n.next, excluded.next) "
        "RETURNING n.sender_key, n.next",
        _values(network, wanted),
    )
    return {row["sender_key"]: int(row["next"]) for row in found}


async def take_free_each(
    uow: Uow, *, network: str, wanted: Sequence[tuple[str, int, UUID]]
) -> dict[str, int]:
    """The lowest number of each account that was given back, held by its attempt now. One below the
    mined count was used on chain without a tx of the account (an authorisation): it is gone."""
    values = _values(network, wanted)
    await uow.rows(
        f"DELETE FROM chain.nonce_uses u USING {_WANTED} WHERE u.network = :network "
        "AND u.sender_key = w.key AND u.attempt_id IS NULL AND u.nonce < w.mined",
        values,
    )
    found = await uow.rows(
        "UPDATE chain.nonce_uses u SET attempt_id = f.id FROM ("
        f"SELECT DISTINCT ON (w.key) w.key, w.id, x.nonce FROM {_WANTED} "
        "JOIN chain.nonce_uses x ON x.network = :network AND x.sender_key = w.key "
        "AND x.attempt_id IS NULL ORDER BY w.key, x.nonce) AS f "
        "WHERE u.network = :network AND u.sender_key = f.key AND u.nonce = f.nonce "
        "RETURNING u.sender_key, u.nonce",
        values,
    )
    return {row["sender_key"]: int(row["nonce"]) for row in found}


async def take_next_each(uow: Uow, *, network: str, taken: Sequence[tuple[str, int, UUID]]) -> None:
    """Hold (account, number never used, attempt), and move each account on."""
    values = _values(network, taken)
    await uow.rows(
        "INSERT INTO chain.nonce_uses (network, sender_key, nonce, attempt_id) "
        f"SELECT CAST(:network AS text), w.key, w.mined, w.id FROM {_WANTED}",
        values,
    )
    await uow.rows(
        f"UPDATE chain.nonces n SET next = w.mined + 1 FROM {_WANTED} "
        "WHERE n.network = :network AND n.sender_key = w.key",
        values,
    )
