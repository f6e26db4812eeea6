"""The vault's answers: head, look-up, void, attestation and signature.

It owns the order of things: remember durably, anchor, then release. A signature that was released
is always in the store; one that cannot be remembered is never released. Refusals are typed, logged
and final for their attempt id.
"""

import hashlib
import json
from collections.abc import Sequence

from signer import attempts_store as rows
from signer import collector
from signer import register_store as register
from signer.attestations import Attester
from signer.errors import RefusalCode, Refused, StoreError
from signer.history import History
from signer.keyring import Keyring
from signer.logs import Log
from signer.policy import Policy
from signer.ports import Clock, Guard
from signer.protocol import (
    PROTOCOL_VERSION,
    Attestations,
    AttestRequest,
    Head,
    LogPage,
    LogRequest,
    Refusal,
    SignedTx,
    SignRequest,
    Voided,
    VoidRequest,
    decode_sign_answer,
    encode_sign_answer,
    encode_sign_request,
)
from signer.protocol_reserves import Proven, ProveRequest
from signer.rate import RateLimit
from signer.reserves import Prover
from signer.rules import Decision
from signer.schemes import bitcoin, evm
from signer.settings import Family, NetworkSettings, Settings
from signer.store import Store
from signer.voids import Voids

ID_CHARACTERS_MAX = 128
EPOCH_STEP_MAX = 1_000_000  # take-overs of a lease between two signatures; years of them
NOT_STORED = frozenset(
    {
        RefusalCode.STALE_EPOCH,
        RefusalCode.ATTEMPT_MISMATCH,
        RefusalCode.STORE_UNWRITABLE,
        RefusalCode.HALTED,
        RefusalCode.TOKEN_UNAVAILABLE,
    }
)  # about the caller or the machine, not about the attempt


class Vault:
    """One key set behind one store. Calls must not overlap; the server sees to it."""

    def __init__(
        self,
        *,
        settings: Settings,
        keyring: Keyring,
        guard: Guard,
        store: Store,
        clock: Clock,
        log: Log,
    ) -> None:
        collector.check_settings(settings, keyring)
        self._settings = settings
        self._guard = guard
        self._keyring = keyring
        self._store = store
        self._clock = clock
        self._log = log
        self._rate = RateLimit(per_minute=settings.signs_per_minute, clock=clock)
        self._is_limited = False
        self._policy = Policy(store=store, settings=settings, keyring=keyring)
        self._history = History(store=store, settings=settings)
        self._voids = Voids(store=store, settings=settings, clock=clock, log=log)
        self._attester = Attester(
            store=store,
            settings=settings,
            keyring=keyring,
            clock=clock,
            log=log,
            check_release=self._check_release,
        )

        self._prover = Prover(
            store=store,
            settings=settings,
            keyring=keyring,
            log=log,
            check_release=self._check_release,
        )

    def head(self) -> Head:
        """Where the log stands."""
        return Head(
            version=PROTOCOL_VERSION,
            fingerprint=self._keyring.fingerprint,
            sequence=self._store.sequence,
            entry_hash=self._store.entry_hash,
        )

    def lookup(self, attempt_id: str) -> SignedTx | Refusal | None:
        """The stored answer of an attempt; nothing leaves while the anchor lags."""
        self._store.ensure_anchored()
        self._check_release()
        found = rows.stored_answer(self._store, attempt_id)
        return None if found is None else decode_sign_answer(json.loads(found[1]))

    def log(self, request: LogRequest) -> LogPage:
        """What was signed on a network, page by page; raises Refused, StoreError."""
        return self._history.page(request)

    def recall(self, attempt_id: str) -> SignRequest | None:
        """What was asked of a signed attempt; raises StoreError."""
        return self._history.question(attempt_id)

    def void(self, request: VoidRequest) -> Voided | Refusal:
        """No first signature for this order any more, for ever."""
        return self._voids.apply(request)

    def attest(self, request: AttestRequest) -> Attestations | Refusal:
        """Whose addresses these are, signed; each path is bound to its first player for ever."""
        return self._attester.attest(request)

    def prove(self, request: ProveRequest) -> Proven | Refusal:
        """A statement about reserves, signed by the attestation key and by keys of addresses."""
        return self._prover.prove(request)

    def sign(self, request: SignRequest) -> SignedTx | Refusal:
        """Decode, check, sign, remember, answer. Same request and bytes: same answer."""
        if self._is_over_rate():
            return Refusal(code=RefusalCode.RATE_LIMITED.value, reason="too many requests a minute")
        try:
            return self._sign(request)
        except Refused as error:
            answer = Refusal(code=error.code.value, reason=error.reason)
            try:
                return self._refuse(request, answer, error.code)
            except StoreError as failure:
                return self._unwritable(request, failure)
        except StoreError as failure:
            return self._unwritable(request, failure)

    def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]:
        """`sign` of each in order, remembered as one durable change before any answer leaves.

        It ends with the first refusal: what is behind it was not looked at, since a lot may be the
        nonces of one account.
        """
        answers: list[SignedTx | Refusal] = []
        try:
            self._store.ensure_anchored()
            with self._store.group():
                for request in requests:
                    answers.append(self.sign(request))
                    if isinstance(answers[-1], Refusal):
                        break
        except StoreError as failure:
            return [self._unwritable(requests[0], failure)]
        return answers

    def _is_over_rate(self) -> bool:
        """A burst is refused cheaply, before its bytes are read, with one alarm for all of it."""
        was_limited, self._is_limited = self._is_limited, not self._rate.take()
        if self._is_limited and not was_limited:
            self._log.alarm("signer.rate_limited", per_minute=self._settings.signs_per_minute)
        return self._is_limited

    def _check_release(self) -> None:
        """Nothing leaves while a person has stopped the signer (S16), or without its token."""
        if register.is_halted(self._store):
            raise Refused(RefusalCode.HALTED, "a person stopped every signature")
        self._guard.check()

    def _sign(self, request: SignRequest) -> SignedTx | Refusal:
        self._store.ensure_anchored()
        self._check_release()
        if not 1 <= len(request.attempt_id) <= ID_CHARACTERS_MAX:
            raise Refused(RefusalCode.ATTEMPT_MISMATCH, "not an attempt id")
        network = self._settings.networks.get(request.network)
        if network is None:
            raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the settings")
        epoch = rows.epoch_of(self._store, request.network)
        if request.worker_epoch < epoch:
            raise Refused(RefusalCode.STALE_EPOCH, "a newer worker has spoken")
        if request.worker_epoch > epoch + EPOCH_STEP_MAX:
            raise Refused(RefusalCode.STALE_EPOCH, "no worker is so far ahead")
        found = rows.stored_answer(self._store, request.attempt_id)
        if found is not None:
            if found[0] != fingerprint(request):
                raise Refused(RefusalCode.ATTEMPT_MISMATCH, "the attempt had other bytes")
            return decode_sign_answer(json.loads(found[1]))
        if network.family is Family.BITCOIN:
            return self._sign_utxo(request, network)
        return self._sign_evm(request, network)

    def _sign_utxo(self, request: SignRequest, network: NetworkSettings) -> SignedTx:
        tx = bitcoin.decode(
            request.unsigned, request.input_paths, keyring=self._keyring, network=network
        )
        now = self._clock.now_seconds()
        decision = self._policy.decide(request, tx, network, now)
        raw, txid = bitcoin.sign(tx, self._keyring)
        return self._remember(request, decision, raw=raw, txid=txid, now=now)

    def _sign_evm(self, request: SignRequest, network: NetworkSettings) -> SignedTx:
        tx = evm.decode(
            request.unsigned,
            request.input_paths,
            keyring=self._keyring,
            network=network,
            purpose=request.purpose,
            own_paths=request.change_paths,
        )
        now = self._clock.now_seconds()
        decision = self._policy.decide(request, tx, network, now)
        raw, txid = evm.sign(tx, self._keyring)
        return self._remember(request, decision, raw=raw, txid=txid, now=now)

    def _remember(
        self, request: SignRequest, decision: Decision, *, raw: bytes, txid: str, now: int
    ) -> SignedTx:
        """Commit and anchor; only then is there an answer to release."""
        with self._store.unit_of_work():
            sequence = self._store.append_log(
                "signed",
                attempt_id=request.attempt_id,
                purpose=request.purpose.value,
                network=request.network,
                txid=txid,
                raw=raw.hex(),
                family=decision.family,
                fee=str(decision.fee_minor),
                requests=[list(pair) for pair in decision.requests],
            )
            answer = SignedTx(
                attempt_id=request.attempt_id, raw=raw, txid=txid, log_sequence=sequence
            )
            self._write(request, decision, answer, now)
        self._log.info(
            "signer.signed",
            attempt_id=request.attempt_id,
            purpose=request.purpose.value,
            network=request.network,
            txid=txid,
            log_sequence=sequence,
        )
        return answer

    def _write(self, request: SignRequest, decision: Decision, answer: SignedTx, now: int) -> None:
        rows.raise_epoch(self._store, network=request.network, epoch=request.worker_epoch)
        digest, question = _written(request)
        rows.record_signed(
            self._store,
            rows.SignedAttempt(
                attempt_id=request.attempt_id,
                fingerprint=digest,
                network=request.network,
                answer=json.dumps(encode_sign_answer(answer)),
                txid=answer.txid,
                family=decision.family,
                payments_hash=decision.payments_hash,
                fee_rank=decision.fee_rank,
                outpoints=decision.outpoints,
                account=decision.account,
                nonce=decision.nonce,
                requests=decision.requests,
                reissued=decision.reissued,
                question=question,
            ),
        )
        for scope, amount in decision.counted:
            rows.add_spent(
                self._store,
                scope=scope,
                at_seconds=now,
                amount_minor=amount,
                attempt_id=request.attempt_id,
            )

    def _refuse(self, request: SignRequest, answer: Refusal, code: RefusalCode) -> Refusal:
        is_final = code not in NOT_STORED and request.network in self._settings.networks
        with self._store.unit_of_work():
            self._store.append_log(
                "refused",
                attempt_id=request.attempt_id[:ID_CHARACTERS_MAX],
                purpose=request.purpose.value,
                network=request.network[:ID_CHARACTERS_MAX],
                code=answer.code,
                reason=answer.reason,
            )
            if is_final:
                # No epoch is raised here: a refused stranger must not fence the true worker out.
                rows.record_refused(
                    self._store,
                    attempt_id=request.attempt_id,
                    fingerprint=fingerprint(request),
                    network=request.network,
                    answer=json.dumps(encode_sign_answer(answer)),
                )
        self._log.alarm(
            "signer.refused",
            attempt_id=request.attempt_id[:ID_CHARACTERS_MAX],
            code=answer.code,
            reason=answer.reason,
        )
        return answer

    def _unwritable(self, request: SignRequest, error: StoreError) -> Refusal:
        self._log.alarm("signer.store_unwritable", attempt_id=request.attempt_id, reason=str(error))
        return Refusal(code=RefusalCode.STORE_UNWRITABLE.value, reason="nothing is signed now")


def fingerprint(request: SignRequest) -> str:
    """What "the same request" means: every field but the worker's epoch and who approved it."""
    return _written(request)[0]


def _written(request: SignRequest) -> tuple[str, bytes]:
    """(fingerprint, the whole question in JSON). What both have is written once: it is long."""
    message = encode_sign_request(request)
    rest = {name: message.pop(name) for name in ("worker_epoch", "approvals")}
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    whole = f"{json.dumps(rest)[:-1]},{text[1:]}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest(), whole.encode("utf-8")
