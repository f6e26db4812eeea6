"""What was given up: (brand, request_id) that get no first signature any more (S25).

It verifies that a client of the brand ordered the payment and, where the caller brings one, that a
client of the brand signed the cancel; then it remembers for ever. The caller's word alone is taken
too: a void can only refuse to pay (docs/adr/0010). It must not sign.
"""

from signer import attempts_store, voids_store
from signer.authorisation import Cancel, authorise, authorise_cancel
from signer.errors import RefusalCode, Refused, StoreError
from signer.logs import Log
from signer.ports import Clock
from signer.protocol import Payment, Refusal, Voided, VoidRequest, encode_authorisation
from signer.settings import Settings
from signer.store import Store

NAME_CHARACTERS_MAX = 255  # of what a refusal's log entry repeats


class Voids:
    """Applies voids to one store. Calls must not overlap with others of the vault."""

    def __init__(self, *, store: Store, settings: Settings, clock: Clock, log: Log) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._log = log

    def apply(self, request: VoidRequest) -> Voided | Refusal:
        """Remember durably, then answer. What is void already is answered as it stands."""
        try:
            try:
                return self._apply(request)
            except Refused as error:
                return self._refuse(request, error)
        except StoreError as failure:
            self._log.alarm("signer.store_unwritable", reason=str(failure))
            return Refusal(code=RefusalCode.STORE_UNWRITABLE.value, reason="nothing is kept now")

    def _apply(self, request: VoidRequest) -> Voided:
        self._store.ensure_anchored()
        brand, request_id = request.brand, request.request_id
        sequence = voids_store.void_sequence(self._store, brand=brand, request_id=request_id)
        if sequence is None:
            sequence = self._remember(request, self._check(request))
        family = attempts_store.paid_family(self._store, brand=brand, request_id=request_id)
        return Voided(log_sequence=sequence, is_signed=family is not None)

    def _check(self, request: VoidRequest) -> Cancel | None:
        """A client ordered it, in any state of the key; a trusted one gave it up; or Refused."""
        now = self._clock.now_seconds()
        order = Payment(
            brand=request.brand,
            request_id=request.request_id,
            output_index=0,
            authorisation=request.order,
        )
        authorise(order, store=self._store, settings=self._settings, now_seconds=now)
        if request.cancel is None:
            return None
        cancel = authorise_cancel(
            request.cancel,
            brand=request.brand,
            store=self._store,
            settings=self._settings,
            now_seconds=now,
        )
        if cancel.request_id not in (None, request.request_id):
            raise Refused(RefusalCode.BAD_CANCEL, "the cancel names another request_id")
        other = voids_store.request_of(
            self._store, brand=request.brand, withdrawal=cancel.withdrawal
        )
        if other is not None:  # this one is not void yet, so the id gave up another
            raise Refused(RefusalCode.BAD_CANCEL, "the cancel's withdrawal was another order")
        return cancel

    def _remember(self, request: VoidRequest, cancel: Cancel | None) -> int:
        raw = None if request.cancel is None else encode_authorisation(request.cancel)
        with self._store.unit_of_work():
            sequence = self._store.append_log(
                "voided", brand=request.brand, request_id=request.request_id, cancel=raw
            )
            voids_store.add_void(
                self._store,
                brand=request.brand,
                request_id=request.request_id,
                withdrawal=None if cancel is None else cancel.withdrawal,
                sequence=sequence,
            )
        self._log.info(
            "signer.voided",
            brand=request.brand,
            request_id=request.request_id,
            is_client_signed=cancel is not None,
            log_sequence=sequence,
        )
        return sequence

    def _refuse(self, request: VoidRequest, error: Refused) -> Refusal:
        """Nothing is final about it: the same order may be made void later."""
        with self._store.unit_of_work():
            self._store.append_log(
                "void_refused",
                brand=request.brand[:NAME_CHARACTERS_MAX],
                request_id=request.request_id[:NAME_CHARACTERS_MAX],
                code=error.code.value,
                reason=error.reason,
            )
        self._log.alarm("signer.void_refused", code=error.code.value, reason=error.reason)
        return Refusal(code=error.code.value, reason=error.reason)
