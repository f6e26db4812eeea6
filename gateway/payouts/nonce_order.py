"""The order in which the attempts of account chains may be signed, within one lot.

Pure. An attempt is signed when every lower number of its account is signed, or goes to the signer
before it in the same lot: a number that nobody uses would stop every payout above it (W6).
"""

from collections.abc import Iterable
from uuid import UUID

from watchers.nonces import Below, Unsigned
from watchers.outgoing import OutgoingRow


class NonceOrder:
    """What stands below each attempt, as the attempts of a lot are decided one after another."""

    def __init__(self, unsigned: Iterable[Unsigned]) -> None:
        self._free: dict[str, set[int]] = {}
        self._planned: dict[str, dict[int, UUID]] = {}
        for item in unsigned:
            if item.attempt_id is None:
                self._free.setdefault(item.sender_key, set()).add(item.nonce)
            else:
                self._planned.setdefault(item.sender_key, {})[item.nonce] = item.attempt_id

    def below(self, tx: OutgoingRow) -> Below:
        """What stands below an attempt now; coins have no order."""
        if tx.sender_key is None or tx.nonce is None:
            return Below.CLEAR
        if any(nonce < tx.nonce for nonce in self._free.get(tx.sender_key, ())):
            return Below.FREE
        lower = any(nonce < tx.nonce for nonce in self._planned.get(tx.sender_key, ()))
        return Below.UNSIGNED if lower else Below.CLEAR

    def open(self, tx: OutgoingRow) -> None:
        """It goes to the signer before what comes behind it."""
        if tx.sender_key is not None and tx.nonce is not None:
            self._planned.get(tx.sender_key, {}).pop(tx.nonce, None)

    def free(self, tx: OutgoingRow) -> None:
        """Its number was given back."""
        if tx.sender_key is not None and tx.nonce is not None:
            self.open(tx)
            self._free.setdefault(tx.sender_key, set()).add(tx.nonce)
