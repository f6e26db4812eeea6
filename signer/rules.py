"""The rules that every purpose shares: exclusion families, windows of counters, own outputs.

A further signature of a family must make the earlier ones impossible beside it (CONTRACT 5). Which
purpose asks for what is in `policy` and the modules of purposes. It writes and signs nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from signer import attempts_store as rows
from signer.approvals import Approvals
from signer.errors import RefusalCode, Refused
from signer.fees import fee_of, rank_of
from signer.keyring import Keyring
from signer.orders import DAY_SECONDS
from signer.paths import Role, parse_path
from signer.protocol import SignRequest
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings, Settings
from signer.store import Store

FEES, SWEEP_FEES = "fee", "sweep_fee"  # counters of what leaves as fees, each per network


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


class Rules:
    """What the purposes of one signer are held against."""

    def __init__(self, *, store: Store, settings: Settings, keyring: Keyring) -> None:
        self.store = store
        self.settings = settings
        self.keyring = keyring

    def approvals(self, request: SignRequest, now: int) -> Approvals:
        """What people signed about this question."""
        return Approvals(
            request.approvals, store=self.store, settings=self.settings, now_seconds=now
        )

    def check_window(self, scope: str, amount: int, cap: int, seconds: int, now: int) -> None:
        """Two codes: what waiting cures, and what no waiting does."""
        if amount > cap:
            reason = f"{scope}: more than the whole cap of {seconds} s"
            raise Refused(RefusalCode.CAP_EXCEEDED, reason)
        taken = rows.spent_since(self.store, scope=scope, since_seconds=now - seconds)
        if taken + amount > cap:
            reason = f"{scope}: over what is left of the cap of {seconds} s"
            raise Refused(RefusalCode.CAP_WINDOW, reason)

    def check_own_outputs(
        self,
        request: SignRequest,
        tx: UtxoTx,
        network: NetworkSettings,
        *,
        roles: Sequence[Role],
        skip: set[int],
    ) -> None:
        """Every output but those of `skip` is of an own path, re-derived, of these roles."""
        rest = set(range(len(tx.outputs))) - skip
        if set(request.change_paths) != rest:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, "an output is neither payment nor change")
        for index, text in request.change_paths.items():
            path = parse_path(text, network)
            if path.role not in roles or tx.outputs[index].script != self.keyring.script(path):
                raise Refused(RefusalCode.FOREIGN_OUTPUT, f"output {index} is not of {path.text}")

    def check_exclusive(
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
        self.check_conflicts(tx, priors)
        if isinstance(tx, EvmTx) and not priors and self.nonce_family(tx, network) is not None:
            raise Refused(RefusalCode.NONCE_USED, f"nonce {tx.nonce} belongs to another family")

    def check_conflicts(self, tx: UtxoTx | EvmTx, priors: Sequence[rows.PriorAttempt]) -> None:
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

    def nonce_family(self, tx: EvmTx, network: NetworkSettings) -> str | None:
        """The family that the tx's number belongs to already."""
        return rows.nonce_family(
            self.store, network=network.name, account=tx.sender_address, nonce=tx.nonce
        )

    def decision(
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
        fees: str = FEES,
    ) -> Decision:
        """One tx of a family is ever mined: of its fees, the window counts the highest.

        `fees`: the counter; sweeps have one of their own, so that they starve no payout.
        """
        scope, fee = f"{fees}:{network.name}", fee_of(tx)
        earlier = 0 if family is None else rows.family_counted(self.store, family, scope=scope)
        added = max(0, fee - earlier)
        is_sweep = fees == SWEEP_FEES
        cap = network.sweep_fee_day_max_minor if is_sweep else network.fee_day_max_minor
        self.check_window(scope, added, cap, DAY_SECONDS, now)
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


def hash_of(value: object) -> str:
    """What makes the payments of two attempts the same."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


ABORT_HASH = hash_of(["abort"])  # no payment: what marks an abort among a family's attempts
