"""Nonces of our own accounts, from the database and never from a node (P18).

Owns `chain.nonces` and `chain.nonce_uses`. A number belongs to what was first signed at it for
ever (CONTRACT 5); only a number that was never signed is given back, and goes to the next payout.
"""

from enum import StrEnum
from uuid import UUID

from config.database import Uow
from watchers import coin_store as store


class Below(StrEnum):
    """What stands below an attempt's nonce."""

    CLEAR = "clear"
    """Every lower number is signed: it may be signed."""
    UNSIGNED = "unsigned"
    """A lower one is being planned or signed: wait for it."""
    FREE = "free"
    """A lower number was given back: plan again and take it."""


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


async def give_back(uow: Uow, *, attempt_id: UUID) -> None:
    """Free the number of an attempt that was never signed; of a signed one it does nothing."""
    await store.give_back_nonce(uow, attempt_id=attempt_id)


async def below(uow: Uow, *, attempt_id: UUID) -> Below:
    """Whether the attempt may be signed now: nothing below it may be free or unsigned, or a number
    that nobody uses would keep a signed payout from ever being mined."""
    is_free, is_unsigned = await store.nonces_below(uow, attempt_id=attempt_id)
    if is_free:
        return Below.FREE
    return Below.UNSIGNED if is_unsigned else Below.CLEAR


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
