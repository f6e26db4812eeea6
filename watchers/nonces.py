"""Nonces of our own accounts, from the database and never from a node (P18).

Owns `chain.nonces` and `chain.nonce_uses`. A number belongs to what was first signed at it for
ever (CONTRACT 5); only a number that was never signed is given back, and goes to the next payout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from config.database import Uow
from watchers import coin_store as store
from watchers import nonce_store


class Below(StrEnum):
    """What stands below an attempt's nonce."""

    CLEAR = "clear"
    """Every lower number is signed: it may be signed."""
    UNSIGNED = "unsigned"
    """A lower one is being planned or signed: wait for it."""
    FREE = "free"
    """A lower number was given back: plan again and take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """A number that nothing is signed at; `attempt_id`: whose it is, None for a free one."""

    sender_key: str
    nonce: int
    attempt_id: UUID | None


async def allocate(uow: Uow, *, network: str, sender_key: str, attempt_id: UUID) -> int:
    """The nonce for an attempt; asked again, the same one. Serialises on the account's row."""
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=0)
    following = await store.lock_account(uow, network=network, sender_key=sender_key)
    held = await store.nonce_of(uow, attempt_id=attempt_id)
    if held is not None:
        return held
    free = await store.take_free_nonce(
        uow, network=network, sender_key=sender_key, attempt_id=attempt_id
    )
    if free is not None:
        return free
    await store.take_next_nonce(
        uow, network=network, sender_key=sender_key, nonce=following, attempt_id=attempt_id
    )
    return following


async def allocate_many(
    uow: Uow, *, network: str, sender_key: str, attempt_ids: Sequence[UUID]
) -> list[int]:
    """`allocate` for attempts that hold no number yet, in their order: free numbers first."""
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=0)
    following = await store.lock_account(uow, network=network, sender_key=sender_key)
    free = await store.take_free_nonces(
        uow, network=network, sender_key=sender_key, attempt_ids=attempt_ids
    )
    rest = attempt_ids[len(free) :]
    if rest:
        await store.take_next_nonces(
            uow, network=network, sender_key=sender_key, nonce=following, attempt_ids=rest
        )
    return [*free, *range(following, following + len(rest))]


async def allocate_each(
    uow: Uow, *, network: str, wanted: Sequence[tuple[str, int, UUID]]
) -> list[int]:
    """`at_least` and `allocate` for one attempt of each of many accounts: (account, mined count,
    attempt without a number), in their order. Raises ValueError for one account twice."""
    if len({key for key, _, _ in wanted}) != len(wanted):
        raise ValueError("one number of each account at a time")
    if not wanted:
        return []
    following = await nonce_store.lock_each(uow, network=network, wanted=wanted)
    held = await nonce_store.take_free_each(uow, network=network, wanted=wanted)
    fresh = [(key, following[key], attempt) for key, _, attempt in wanted if key not in held]
    if fresh:
        await nonce_store.take_next_each(uow, network=network, taken=fresh)
    return [held.get(key, following[key]) for key, _, _ in wanted]


async def give_back(uow: Uow, *, attempt_id: UUID) -> None:
    """Free the number of an attempt that was never signed; of a signed one it does nothing."""
    await store.give_back_nonce(uow, attempt_id=attempt_id)


async def unsigned(uow: Uow, *, network: str, sender_keys: Sequence[str]) -> list[Unsigned]:
    """The numbers of some accounts that nothing is signed at: free ones, and those of attempts that
    are planned. The caller holds the locks of the attempts that it decides on."""
    rows = await store.unsigned_nonces(uow, network=network, sender_keys=sender_keys)
    return [
        Unsigned(sender_key=row["sender_key"], nonce=row["nonce"], attempt_id=row["attempt_id"])
        for row in rows
    ]


async def claim(uow: Uow, *, network: str, sender_key: str, nonce: int, attempt_id: UUID) -> None:
    """Give a number to an attempt that is signed at it already (a recovery of lost books).

    Numbers below that nobody has are free: the next payout takes them.
    """
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=0)
    following = await store.lock_account(uow, network=network, sender_key=sender_key)
    await store.claim_nonce(
        uow,
        network=network,
        sender_key=sender_key,
        nonce=nonce,
        following=following,
        attempt_id=attempt_id,
    )
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=nonce + 1)


async def observe(uow: Uow, *, network: str, sender_key: str, nonce: int) -> None:
    """The chain used a nonce of ours: the account continues above it, whoever sent it."""
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=nonce + 1)
    await store.used_on_chain(uow, network=network, sender_key=sender_key, nonce=nonce)


async def at_least(uow: Uow, *, network: str, sender_key: str, mined_count: int) -> None:
    """Start an account that has a history before us at its mined count."""
    await store.ensure_account(uow, network=network, sender_key=sender_key, following=mined_count)
