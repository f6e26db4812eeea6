"""What may be signed: the purposes of CONTRACT 8 and the exclusion families of CONTRACT 5.

A first signature needs a trusted client's valid order and free caps; a further one must make the
earlier ones impossible beside it. Everything else is refused. It writes and signs nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from signer import attempts_store as rows
from signer import contract_setup, own_moves, refunds
from signer.approvals import Approvals
from signer.authorisation import AuthorisedOrder, StaffRequests, authorise_all
from signer.batches import match_transfer
from signer.errors import RefusalCode, Refused
from signer.fees import check_fee, fee_of, rank_of
from signer.history import stored_question
from signer.keyring import Keyring
from signer.orders import DAY_SECONDS
from signer.paths import Role, parse_path
from signer.protocol import OWN_MOVES, Purpose, SignRequest
from signer.register_store import KeyState
from signer.schemes.address import bitcoin_script
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings, Settings
from signer.store import Store
from signer.voids_store import voided

HOUR_SECONDS = 3_600
PAYMENTS_MAX = 1_000
OWN_UTXO_ROLES = (Role.HOT, Role.CHANGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A yes, with everything that must be remembered before the signature leaves.

    `counted` are (scope, minor units) for the counters.
    """

    family: str
    payments_hash: str
    fee_rank: int
    fee_minor: int
    outpoints: frozenset[str] = frozenset()
    account: str | None = None
    nonce: int | None = None
    requests: tuple[tuple[str, str], ...] = ()
    reissued: tuple[tuple[str, str], ...] = ()
    counted: tuple[tuple[str, int], ...] = field(default=())


class Policy:
    """The rules of one signer."""

    def __init__(self, *, store: Store, settings: Settings, keyring: Keyring) -> None:
        self._store = store
        self._settings = settings
        self._keyring = keyring

    def decide(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now_seconds: int
    ) -> Decision:
        """Yes with a Decision, or raises Refused."""
        check_fee(tx, network)
        if request.purpose in (Purpose.WITHDRAWAL, Purpose.REISSUE):
            return self._withdrawal(request, tx, network, now_seconds)
        if request.payments:
            raise Refused(RefusalCode.BAD_REQUEST, "this purpose has no payments")
        if request.purpose in (Purpose.REFUND, Purpose.RECOVERY):
            return self._refund(request, tx, network, now_seconds)
        if request.purpose is Purpose.ABORT:
            return self._abort(request, tx, network, now_seconds)
        if request.purpose is Purpose.GAS_TOP_UP and isinstance(tx, EvmTx):
            return self._gas_top_up(request, tx, network, now_seconds)
        if isinstance(tx, EvmTx) and tx.setup is not None:
            return self._setup(request, tx, network, now_seconds)
        if request.purpose is Purpose.CPFP and isinstance(tx, UtxoTx):
            return self._cpfp(request, tx, network, now_seconds)
        if request.purpose in OWN_MOVES and isinstance(tx, UtxoTx):
            return self._own_move(request, tx, network, now_seconds)
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
        return self._in_family(request, tx, network, found, requests, _hash(paid), now)

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
        approvals = self._approvals(request, now)
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
        self._check_exclusive(request, tx, network, priors, payments_hash)
        return self._decision(
            request, tx, network, now, family, payments_hash, requests, counted, reissued=reissued
        )

    def _approvals(self, request: SignRequest, now: int) -> Approvals:
        return Approvals(
            request.approvals, store=self._store, settings=self._settings, now_seconds=now
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

    def _abort(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """Only what its one member's family could have spent, back to ourselves (CONTRACT 5)."""
        family = None if request.replaces is None else rows.family_of(self._store, request.replaces)
        if family is None or request.own_path is not None:
            raise Refused(RefusalCode.BAD_REQUEST, "an abort names the attempt it replaces")
        members = rows.family_requests(self._store, family)
        if len(members) != 1:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a batch is never aborted")
        brand, request_id = members[0]
        if rows.paid_family(self._store, brand=brand, request_id=request_id) != family:
            raise Refused(RefusalCode.ALREADY_PAID, f"{request_id}: it was reissued")
        priors = rows.family_attempts(self._store, family)
        if any(prior.network != network.name for prior in priors):
            raise Refused(RefusalCode.WRONG_NETWORK, "the attempt is of another network")
        self._check_conflicts(tx, priors)
        if isinstance(tx, UtxoTx):
            if not tx.outpoints <= frozenset().union(*(prior.outpoints for prior in priors)):
                raise Refused(RefusalCode.FOREIGN_INPUT, "a coin that no earlier attempt spends")
            self._check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set())
        elif request.change_paths or not tx.is_noop:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "not a transfer of nothing to itself")
        paying = [prior.txid for prior in priors if prior.payments_hash != ABORT_HASH]
        self._approvals(request, now).require_abort(brand, request_id, paying)
        return self._decision(request, tx, network, now, family, ABORT_HASH, tuple(members), ())

    def _refund(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """One deposit's amount to where two people send it, once for ever (CONTRACT 8)."""
        if request.own_path is not None:
            raise Refused(RefusalCode.BAD_REQUEST, "a refund has no own path")
        refund = self._approvals(request, now).require_refund(request.purpose.value, network)
        paid = refunds.match(request, tx, refund, network)
        if isinstance(tx, UtxoTx):
            rest = set(range(len(tx.outputs))) - set(request.change_paths)
            self._check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=rest)
        pair = (refunds.OWNER, refund.deposit_id)
        family = rows.paid_families(self._store, [pair]).get(pair)
        counted: tuple[tuple[str, int], ...] = ()
        if family is None:
            if refund.valid_until_seconds <= now:
                raise Refused(RefusalCode.EXPIRED, f"{refund.deposit_id}: past valid_until")
            limits, scope = network.assets[refund.asset], f"refund:{refund.asset}"
            if refund.amount_minor > limits.refund_tx_max_minor:
                raise Refused(RefusalCode.CAP_EXCEEDED, "over the cap per refund")
            day = limits.refund_day_max_minor
            self._check_window(scope, refund.amount_minor, day, DAY_SECONDS, now)
            counted = ((scope, refund.amount_minor),)
        priors = [] if family is None else rows.family_attempts(self._store, family)
        if family is None and request.replaces is not None:
            raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
        self._check_exclusive(request, tx, network, priors, _hash(paid))
        return self._decision(request, tx, network, now, family, _hash(paid), (pair,), counted)

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
            self._check_window(f"out:{asset}", total, limits.cap_hour_minor, HOUR_SECONDS, now)
            self._check_window(f"out:{asset}", total, limits.cap_day_minor, DAY_SECONDS, now)
        for scope, (total, day) in keys.items():
            self._check_window(scope, total, day, DAY_SECONDS, now)
        return (
            *((f"out:{asset}", total) for asset, total in totals.items()),
            *((scope, total) for scope, (total, _) in keys.items()),
        )

    def _check_window(self, scope: str, amount: int, cap: int, seconds: int, now: int) -> None:
        """Two codes: what waiting cures, and what no waiting does."""
        if amount > cap:
            reason = f"{scope}: more than the whole cap of {seconds} s"
            raise Refused(RefusalCode.CAP_EXCEEDED, reason)
        taken = rows.spent_since(self._store, scope=scope, since_seconds=now - seconds)
        if taken + amount > cap:
            reason = f"{scope}: over what is left of the cap of {seconds} s"
            raise Refused(RefusalCode.CAP_WINDOW, reason)

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
        self._check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set(paid))
        return sorted(paid.values(), key=str)

    def _check_own_outputs(
        self,
        request: SignRequest,
        tx: UtxoTx,
        network: NetworkSettings,
        *,
        roles: Sequence[Role],
        skip: set[int],
    ) -> None:
        rest = set(range(len(tx.outputs))) - skip
        if set(request.change_paths) != rest:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, "an output is neither payment nor change")
        for index, text in request.change_paths.items():
            path = parse_path(text, network)
            if path.role not in roles or tx.outputs[index].script != self._keyring.script(path):
                raise Refused(RefusalCode.FOREIGN_OUTPUT, f"output {index} is not of {path.text}")

    def _check_exclusive(
        self,
        request: SignRequest,
        tx: UtxoTx | EvmTx,
        network: NetworkSettings,
        priors: Sequence[rows.PriorAttempt],
        payments_hash: str,
    ) -> None:
        """Every further attempt conflicts with every earlier one and pays the same (S07, S08)."""
        if priors and request.replaces not in {prior.attempt_id for prior in priors}:
            raise Refused(RefusalCode.ALREADY_PAID, "it does not name the attempt it replaces")
        if any(prior.payments_hash != payments_hash for prior in priors):
            raise Refused(RefusalCode.ALREADY_PAID, "the family has other payments")
        self._check_conflicts(tx, priors)
        if isinstance(tx, EvmTx) and not priors and self._nonce_family(tx, network) is not None:
            raise Refused(RefusalCode.NONCE_USED, f"nonce {tx.nonce} belongs to another family")

    def _check_conflicts(self, tx: UtxoTx | EvmTx, priors: Sequence[rows.PriorAttempt]) -> None:
        """Beside none of these, and above each one's fee."""
        rank = rank_of(tx)
        for prior in priors:
            if isinstance(tx, UtxoTx):
                is_exclusive = bool(prior.outpoints & tx.outpoints)
            else:
                is_exclusive = (prior.account, prior.nonce) == (tx.sender_address, tx.nonce)
            if not is_exclusive:
                raise Refused(RefusalCode.NOT_EXCLUSIVE, f"beside {prior.attempt_id}, not instead")
            if rank <= prior.fee_rank:
                raise Refused(RefusalCode.FEE_NOT_HIGHER, f"not above {prior.attempt_id}")

    def _decision(
        self,
        request: SignRequest,
        tx: UtxoTx | EvmTx,
        network: NetworkSettings,
        now: int,
        family: str | None,
        payments_hash: str,
        requests: tuple[tuple[str, str], ...],
        counted: tuple[tuple[str, int], ...],
        *,
        reissued: tuple[tuple[str, str], ...] = (),
    ) -> Decision:
        """One tx of a family is ever mined: of its fees, the window counts the highest."""
        scope, fee = f"fee:{network.name}", fee_of(tx)
        earlier = 0 if family is None else rows.family_counted(self._store, family, scope=scope)
        added = max(0, fee - earlier)
        self._check_window(scope, added, network.fee_day_max_minor, DAY_SECONDS, now)
        return Decision(
            family=family or request.attempt_id,
            payments_hash=payments_hash,
            fee_rank=rank_of(tx),
            fee_minor=fee,
            outpoints=tx.outpoints if isinstance(tx, UtxoTx) else frozenset(),
            account=None if isinstance(tx, UtxoTx) else tx.sender_address,
            nonce=None if isinstance(tx, UtxoTx) else tx.nonce,
            requests=requests,
            reissued=reissued,
            counted=((scope, added), *counted),
        )

    def _nonce_family(self, tx: EvmTx, network: NetworkSettings) -> str | None:
        return rows.nonce_family(
            self._store, network=network.name, account=tx.sender_address, nonce=tx.nonce
        )

    def _gas_top_up(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """Native coin to an own re-derived address, capped per tx and per address and day."""
        if request.own_path is None or request.change_paths:
            raise Refused(RefusalCode.BAD_REQUEST, "a top-up has an own path and no change")
        target = parse_path(request.own_path, network)
        if tx.sender.role not in (Role.GAS, Role.HOT):
            raise Refused(RefusalCode.BAD_PATH, "a top-up comes from a gas or hot account")
        own = self._keyring.evm_address(target)
        is_batch = tx.batch is not None
        if is_batch or tx.asset != network.native.asset or tx.destination != own:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, f"it does not pay {target.text}")
        if target == tx.sender:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, f"it does not pay {target.text}")
        if tx.amount_minor > network.gas_top_up_tx_max_minor:
            raise Refused(RefusalCode.CAP_EXCEEDED, "over the top-up cap per tx")
        scope = f"gas:{network.name}:{own.hex()}"
        family = self._nonce_family(tx, network)
        counted: tuple[tuple[str, int], ...] = ()
        if family is None:
            cap = network.gas_top_up_address_day_max_minor
            self._check_window(scope, tx.amount_minor, cap, DAY_SECONDS, now)
            counted = ((scope, tx.amount_minor),)
        priors = [] if family is None else rows.family_attempts(self._store, family)
        payments_hash = _hash(["gas", own.hex(), tx.amount_minor])
        if family is not None and request.replaces is None:
            raise Refused(RefusalCode.NONCE_USED, f"nonce {tx.nonce} belongs to another family")
        self._check_exclusive(request, tx, network, priors, payments_hash)
        return self._decision(request, tx, network, now, family, payments_hash, (), counted)

    def _setup(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """What two people signed about the batch contract, each reference once for ever."""
        staff = StaffRequests(store=self._store, settings=self._settings, now_seconds=now)
        (brand, key), words = contract_setup.approved(request, tx, network, staff)
        family, said = rows.paid_family(self._store, brand=brand, request_id=key), _hash(words)
        if family is None and request.replaces is not None:
            raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
        priors = [] if family is None else rows.family_attempts(self._store, family)
        self._check_exclusive(request, tx, network, priors, said)
        return self._decision(request, tx, network, now, family, said, ((brand, key),), ())

    def _cpfp(
        self, request: SignRequest, tx: UtxoTx, network: NetworkSettings, now: int
    ) -> Decision:
        """All outputs to own hot or change paths, spending an output of an own earlier tx."""
        if request.own_path is not None:
            parse_path(request.own_path, network)
            if request.own_path not in request.change_paths.values():
                raise Refused(RefusalCode.FOREIGN_OUTPUT, "the own path is not an output")
        child_hash = _hash(["cpfp"])
        own_moves.check_child(tx, network, child_hash=child_hash, store=self._store)
        self._check_own_outputs(request, tx, network, roles=OWN_UTXO_ROLES, skip=set())
        return self._decision(request, tx, network, now, None, child_hash, (), ())

    def _own_move(
        self, request: SignRequest, tx: UtxoTx, network: NetworkSettings, now: int
    ) -> Decision:
        """Own free coins to own change, with a fee counter of its own (CONTRACT 8)."""
        own_moves.check(request, tx, network, store=self._store)
        self._check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set())
        scope = f"moves:{network.name}"
        self._check_window(scope, tx.fee_minor, network.move_fee_day_max_minor, DAY_SECONDS, now)
        moved = _hash([request.purpose.value])
        counted = ((scope, tx.fee_minor),)
        return self._decision(request, tx, network, now, None, moved, (), counted)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


ABORT_HASH = _hash(["abort"])  # no payment: what marks an abort among a family's attempts
