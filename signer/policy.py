"""What may be signed: the purposes of CONTRACT 8 and the exclusion families of CONTRACT 5.

A first signature needs a trusted client's valid order and free caps; a further one must make the
earlier ones impossible beside it. Everything else is refused. It writes and signs nothing. What
needs no client is in `own_purposes`, `staff_purposes` and `cold_moves`, what all of them share in
`rules`.
"""

from collections.abc import Mapping, Sequence

from signer import attempts_store as rows
from signer.approvals import Approvals
from signer.authorisation import AuthorisedOrder, authorise_all
from signer.batches import match_transfer
from signer.cold_moves import ColdMoves
from signer.errors import RefusalCode, Refused
from signer.fees import check_fee
from signer.history import stored_question
from signer.keyring import Keyring
from signer.orders import DAY_SECONDS
from signer.own_purposes import OwnPurposes
from signer.paths import Role
from signer.protocol import OWN_MOVES, Purpose, SignRequest
from signer.register_store import KeyState
from signer.rules import ABORT_HASH, Decision, Rules, hash_of
from signer.schemes.address import bitcoin_script
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings, Settings
from signer.staff_purposes import StaffPurposes
from signer.store import Store
from signer.voids_store import voided
from signer.wallet_ways import WAYS, check_not_warm

HOUR_SECONDS = 3_600
PAYMENTS_MAX = 1_000


class Policy:
    """The rules of one signer."""

    def __init__(self, *, store: Store, settings: Settings, keyring: Keyring) -> None:
        self._store = store
        self._settings = settings
        self._rules = Rules(store=store, settings=settings, keyring=keyring)
        self._own = OwnPurposes(self._rules)
        self._staff = StaffPurposes(self._rules)
        self._moves = ColdMoves(self._rules)

    def decide(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now_seconds: int
    ) -> Decision:
        """Yes with a Decision, or raises Refused."""
        check_fee(tx, network)
        check_not_warm(request.purpose, tx)
        if request.purpose in (Purpose.WITHDRAWAL, Purpose.REISSUE):
            return self._withdrawal(request, tx, network, now_seconds)
        if request.payments:
            raise Refused(RefusalCode.BAD_REQUEST, "this purpose has no payments")
        if request.purpose in (Purpose.REFUND, Purpose.RECOVERY):
            return self._staff.refund(request, tx, network, now_seconds)
        if request.purpose is Purpose.ABORT:
            return self._staff.abort(request, tx, network, now_seconds)
        if request.purpose is Purpose.GAS_TOP_UP and isinstance(tx, EvmTx):
            return self._own.gas_top_up(request, tx, network, now_seconds)
        if request.purpose is Purpose.SWEEP and isinstance(tx, EvmTx):
            return self._own.sweep(request, tx, network, now_seconds)
        if request.purpose is Purpose.COLLECT and isinstance(tx, EvmTx):
            return self._own.collect(request, tx, network, now_seconds)
        if request.purpose is Purpose.SAFE_REFILL and isinstance(tx, EvmTx):
            return self._own.safe_refill(request, tx, network, now_seconds)
        if request.purpose in WAYS:
            return self._moves.decide(request, tx, network, now_seconds)
        if isinstance(tx, EvmTx) and tx.setup is not None:
            return self._staff.setup(request, tx, network, now_seconds)
        if request.purpose is Purpose.CPFP and isinstance(tx, UtxoTx):
            return self._own.cpfp(request, tx, network, now_seconds)
        if request.purpose in OWN_MOVES and isinstance(tx, UtxoTx):
            return self._own.own_move(request, tx, network, now_seconds)
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "this purpose is not for this network")

    def _withdrawal(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        if not 1 <= len(request.payments) <= PAYMENTS_MAX or request.own_path is not None:
            raise Refused(RefusalCode.BAD_REQUEST, "a withdrawal has payments and no own path")
        requests = tuple(sorted((p.brand, p.request_id) for p in request.payments))
        if len(set(requests)) != len(requests):
            raise Refused(RefusalCode.ALREADY_PAID, "one request twice in a tx")
        found = authorise_all(
            request.payments, store=self._store, settings=self._settings, now_seconds=now
        )
        if any(item.order.network != network.name for item in found):
            raise Refused(RefusalCode.PAYMENT_MISMATCH, "an order is for another network")
        if any(item.key.state is KeyState.FROZEN for item in found):
            raise Refused(RefusalCode.KEY_NOT_TRUSTED, "a client key is frozen")
        if isinstance(tx, UtxoTx):
            paid = self._match_outputs(request, tx, found, network)
        else:
            paid = match_transfer(request, tx, found)
        return self._in_family(request, tx, network, found, requests, hash_of(paid), now)

    def _in_family(
        self,
        request: SignRequest,
        tx: UtxoTx | EvmTx,
        network: NetworkSettings,
        found: Sequence[AuthorisedOrder],
        requests: tuple[tuple[str, str], ...],
        payments_hash: str,
        now: int,
    ) -> Decision:
        approvals = self._rules.approvals(request, now)
        families_begun = rows.paid_families(self._store, requests)
        began = {pair: families_begun.get(pair) for pair in requests}
        reissued = self._reissued(request, began, approvals)
        families = {None if pair in reissued else family for pair, family in began.items()}
        family = families.pop()
        if families:
            raise Refused(RefusalCode.ALREADY_PAID, "the requests belong to different families")
        counted: tuple[tuple[str, int], ...] = ()
        if family is None:
            self._check_void(requests)
            if request.replaces is not None:
                raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
            fresh = [
                item
                for payment, item in zip(request.payments, found, strict=True)
                if (payment.brand, payment.request_id) not in reissued
            ]
            self._check_first(fresh, now)
            counted = self._check_caps(found, now)  # what no cap allows asks no people
            self._check_dual(fresh, network, approvals)
        priors = [] if family is None else rows.family_attempts(self._store, family)
        self._rules.check_exclusive(request, tx, network, priors, payments_hash)
        return self._rules.decision(
            request, tx, network, now, family, payments_hash, requests, counted, reissued=reissued
        )

    def _reissued(
        self,
        request: SignRequest,
        began: Mapping[tuple[str, str], str | None],
        approvals: Approvals,
    ) -> tuple[tuple[str, str], ...]:
        """The requests that leave their families: two people called all their txids dead.

        Not one whose abort was signed: it may have ended `cancelled`, and was credited back.
        """
        if request.purpose is not Purpose.REISSUE or request.replaces is not None:
            return ()
        reissued = tuple(pair for pair, family in began.items() if family is not None)
        if not reissued:
            raise Refused(RefusalCode.BAD_REQUEST, "nothing here was signed before")
        for brand, request_id in reissued:
            attempts = [
                attempt
                for family in rows.families_of(self._store, brand=brand, request_id=request_id)
                for attempt in rows.family_attempts(self._store, family)
            ]
            self._check_same_order(request, brand, request_id, attempts)
            if any(attempt.payments_hash == ABORT_HASH for attempt in attempts):
                raise Refused(RefusalCode.ALREADY_PAID, f"{request_id}: it was aborted")
            approvals.require_reissue(brand, request_id, [item.txid for item in attempts])
        return reissued

    def _check_same_order(
        self,
        request: SignRequest,
        brand: str,
        request_id: str,
        attempts: Sequence[rows.PriorAttempt],
    ) -> None:
        """A client may have signed a request_id twice: it is reissued as it was signed for."""
        wanted = {
            (item.brand, item.request_id): item.authorisation.body for item in request.payments
        }[(brand, request_id)]
        bodies = {
            payment.authorisation.body
            for item in attempts
            if (question := rows.question_of(self._store, item.attempt_id)) is not None
            for payment in stored_question(question).payments
            if (payment.brand, payment.request_id) == (brand, request_id)
        }
        if bodies != {wanted}:
            raise Refused(RefusalCode.PAYMENT_MISMATCH, f"{request_id}: signed as another order")

    def _check_dual(
        self, found: Sequence[AuthorisedOrder], network: NetworkSettings, approvals: Approvals
    ) -> None:
        """Above the dual limit two people approve each first payment (S15)."""
        for item in found:
            order = item.order
            if order.amount_minor > network.assets[order.asset].dual_limit_minor:
                approvals.require_payment(item.key.brand, order, network)

    def _check_void(self, requests: tuple[tuple[str, str], ...]) -> None:
        """No first signature after a cancel (CONTRACT 3); a begun family goes on (S25)."""
        for request_id in voided(self._store, requests):
            raise Refused(RefusalCode.VOIDED, f"{request_id}: the order was given up")

    def _check_first(self, found: Sequence[AuthorisedOrder], now: int) -> None:
        """No first signature by a key that is not trusted now, or after `valid_until`."""
        for item in found:
            key = item.key
            if key.state is not KeyState.TRUSTED or key.expires_at <= now:
                raise Refused(RefusalCode.KEY_NOT_TRUSTED, "a client key is revoked or expired")
            if item.order.asset not in key.caps:
                raise Refused(RefusalCode.KEY_NOT_TRUSTED, "a client key is not for this asset")
            if item.order.valid_until_seconds <= now:
                raise Refused(RefusalCode.EXPIRED, f"{item.order.request_id}: past valid_until")

    def _check_caps(
        self, found: Sequence[AuthorisedOrder], now: int
    ) -> tuple[tuple[str, int], ...]:
        totals: dict[str, int] = {}
        keys: dict[str, tuple[int, int]] = {}  # scope -> (total, cap per day)
        for item in found:
            order, cap = item.order, item.key.caps.get(item.order.asset)
            if cap is None:
                raise Refused(RefusalCode.KEY_NOT_TRUSTED, "a client key is not for this asset")
            if order.amount_minor > cap.tx_minor:
                reason = f"{order.request_id}: over the key's cap per payment"
                raise Refused(RefusalCode.CAP_EXCEEDED, reason)
            totals[order.asset] = totals.get(order.asset, 0) + order.amount_minor
            scope = f"key:{item.key.keyid}:{order.asset}"
            keys[scope] = (keys.get(scope, (0, 0))[0] + order.amount_minor, cap.day_minor)
        for asset, total in totals.items():
            limits = self._settings.networks[asset.partition(":")[0]].assets[asset]
            if total > limits.cap_tx_minor:
                raise Refused(RefusalCode.CAP_EXCEEDED, f"{asset}: over the cap per tx")
            self._rules.check_window(
                f"out:{asset}", total, limits.cap_hour_minor, HOUR_SECONDS, now
            )
            self._rules.check_window(f"out:{asset}", total, limits.cap_day_minor, DAY_SECONDS, now)
        for scope, (total, day) in keys.items():
            self._rules.check_window(scope, total, day, DAY_SECONDS, now)
        return (
            *((f"out:{asset}", total) for asset, total in totals.items()),
            *((scope, total) for scope, (total, _) in keys.items()),
        )

    def _match_outputs(
        self,
        request: SignRequest,
        tx: UtxoTx,
        found: Sequence[AuthorisedOrder],
        network: NetworkSettings,
    ) -> list[object]:
        """Outputs = payments + change to own re-derived paths, and nothing else (S02, S03)."""
        paid: dict[int, object] = {}
        for payment, item in zip(request.payments, found, strict=True):
            index, order = payment.output_index, item.order
            if not 0 <= index < len(tx.outputs) or index in paid:
                raise Refused(RefusalCode.PAYMENT_MISMATCH, "an output index is wrong or double")
            script, output = bitcoin_script(order.address, network), tx.outputs[index]
            is_ordered = order.least_minor <= output.amount_minor <= order.amount_minor
            if output.script != script or not is_ordered:
                raise Refused(
                    RefusalCode.PAYMENT_MISMATCH,
                    f"output {index} is not what the client signed for {order.request_id}",
                )
            paid[index] = [
                payment.brand, order.request_id, order.asset, script.hex(), output.amount_minor,
            ]  # fmt: skip
        self._rules.check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set(paid))
        return sorted(paid.values(), key=str)
