"""What was signed, for books that have to be compared or written again (P09).

It reads the log and the stored questions, and decides nothing. What it tells was released before:
payouts held these bytes once.
"""

import json

from signer import attempts_store
from signer.errors import RefusalCode, Refused, StoreError
from signer.protocol import (
    MAX_LOG_ENTRIES,
    LogEntry,
    LogPage,
    LogRequest,
    RequestReader,
    SignRequest,
    decode_sign_request,
    strict_loads,
)
from signer.settings import Settings
from signer.store import Store

READ_MAX = 2_000  # entries of any kind read for one page: some milliseconds


class History:
    """Reads one store. Calls must not overlap with others of the vault."""

    def __init__(self, *, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def page(self, request: LogRequest) -> LogPage:
        """The signatures in the next entries of the log; raises Refused, StoreError."""
        if request.network not in self._settings.networks:
            raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the settings")
        self._store.ensure_anchored()
        found: list[LogEntry] = []
        through, through_hash = request.after, self._store.entry_hash_at(request.after)
        for sequence, body, entry_hash in self._store.log_after(request.after, limit=READ_MAX):
            through, through_hash = sequence, entry_hash
            entry = _signature(sequence, body, request.network)
            if entry is not None:
                found.append(entry)
                if len(found) == MAX_LOG_ENTRIES:
                    break
        return LogPage(
            after_hash=self._store.entry_hash_at(request.after),
            through=through,
            through_hash=through_hash or "",
            head=self._store.sequence,
            epoch=attempts_store.epoch_of(self._store, request.network),
            entries=tuple(found),
        )

    def question(self, attempt_id: str) -> SignRequest | None:
        """What was asked of a signed attempt; raises StoreError."""
        self._store.ensure_anchored()
        body = attempts_store.question_of(self._store, attempt_id)
        return None if body is None else stored_question(body)


def stored_question(body: bytes) -> SignRequest:
    """What the store keeps as asked; older versions wrote a batch's body at each payment."""
    return decode_sign_request(strict_loads(body), RequestReader(may_repeat=True))


def _signature(sequence: int, body: str, network: str) -> LogEntry | None:
    """The entry, if it is a signature on this network."""
    try:
        entry = json.loads(body)
        fields = entry["fields"]
        if entry["kind"] != "signed" or fields["network"] != network:
            return None
        return LogEntry(
            sequence=sequence,
            attempt_id=fields["attempt_id"],
            family=fields["family"],
            purpose=fields["purpose"],
            txid=fields["txid"],
            fee_minor=int(fields["fee"]),
            requests=tuple((pair[0], pair[1]) for pair in fields["requests"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreError(f"record {sequence} of the log cannot be read") from error
