"""The purposes that two people sign without a client: abort, refund and recovery, set-up.

Who signed is checked over the bytes as received, against the signer's own register. It writes and
signs nothing.
"""

from signer import attempts_store as rows
from signer import contract_setup, refunds
from signer.authorisation import StaffRequests
from signer.errors import RefusalCode, Refused
from signer.orders import DAY_SECONDS
from signer.paths import Role
from signer.protocol import SignRequest
from signer.rules import ABORT_HASH, Decision, Rules, hash_of
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings


class StaffPurposes:
    """What two people of the register decide."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._store = rules.store
        self._settings = rules.settings

    def abort(
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
        self._rules.check_conflicts(tx, priors)
        if isinstance(tx, UtxoTx):
            if not tx.outpoints <= frozenset().union(*(prior.outpoints for prior in priors)):
                raise Refused(RefusalCode.FOREIGN_INPUT, "a coin that no earlier attempt spends")
            self._rules.check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set())
        elif request.change_paths or not tx.is_noop:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "not a transfer of nothing to itself")
        paying = [prior.txid for prior in priors if prior.payments_hash != ABORT_HASH]
        self._rules.approvals(request, now).require_abort(brand, request_id, paying)
        return self._rules.decision(
            request, tx, network, now, family, ABORT_HASH, tuple(members), ()
        )

    def refund(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """One deposit's amount to where two people send it, once for ever (CONTRACT 8)."""
        if request.own_path is not None:
            raise Refused(RefusalCode.BAD_REQUEST, "a refund has no own path")
        refund = self._rules.approvals(request, now).require_refund(request.purpose.value, network)
        paid = refunds.match(request, tx, refund, network)
        if isinstance(tx, UtxoTx):
            rest = set(range(len(tx.outputs))) - set(request.change_paths)
            self._rules.check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=rest)
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
            self._rules.check_window(scope, refund.amount_minor, day, DAY_SECONDS, now)
            counted = ((scope, refund.amount_minor),)
        priors = [] if family is None else rows.family_attempts(self._store, family)
        if family is None and request.replaces is not None:
            raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
        self._rules.check_exclusive(request, tx, network, priors, hash_of(paid))
        return self._rules.decision(
            request, tx, network, now, family, hash_of(paid), (pair,), counted
        )

    def setup(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """What two people signed about the batch contract, each reference once for ever."""
        staff = StaffRequests(store=self._store, settings=self._settings, now_seconds=now)
        (brand, key), words = contract_setup.approved(request, tx, network, staff)
        family, said = (
            rows.paid_family(self._store, brand=brand, request_id=key),
            hash_of(words),
        )
        if family is None and request.replaces is not None:
            raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
        priors = [] if family is None else rows.family_attempts(self._store, family)
        self._rules.check_exclusive(request, tx, network, priors, said)
        return self._rules.decision(request, tx, network, now, family, said, ((brand, key),), ())
