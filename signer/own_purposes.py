"""The purposes that nobody authorises: what they move stays ours, and its fee is all that leaves.

Merges, splits and children of own coins, gas for own accounts, and a Safe's call that fills a hot
lane (CONTRACT 8). Each re-derives where it goes and has caps and counters of its own. It writes and
signs nothing.
"""

from signer import attempts_store as rows
from signer import cold_pins, own_moves
from signer.collector import SENDER_INDEX
from signer.errors import RefusalCode, Refused
from signer.orders import DAY_SECONDS
from signer.paths import Role, parse_path
from signer.protocol import SignRequest
from signer.rules import SWEEP_FEES, Decision, Rules, hash_of
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings
from signer.wallet_ways import HOT_LANES_MAX

OWN_UTXO_ROLES = (Role.HOT, Role.CHANGE)


class OwnPurposes:
    """The internal purposes of one signer."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._store = rules.store
        self._keyring = rules.keyring

    def gas_top_up(
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
        family = self._rules.nonce_family(tx, network)
        counted: tuple[tuple[str, int], ...] = ()
        if family is None:
            cap = network.gas_top_up_address_day_max_minor
            self._rules.check_window(scope, tx.amount_minor, cap, DAY_SECONDS, now)
            counted = ((scope, tx.amount_minor),)
        priors = [] if family is None else rows.family_attempts(self._store, family)
        payments_hash = hash_of(["gas", own.hex(), tx.amount_minor])
        if family is not None and request.replaces is None:
            raise Refused(RefusalCode.NONCE_USED, f"nonce {tx.nonce} belongs to another family")
        self._rules.check_exclusive(request, tx, network, priors, payments_hash)
        return self._rules.decision(
            request, tx, network, now, family, payments_hash, (), counted, fees=SWEEP_FEES
        )

    def sweep(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """A deposit address gives coin or a listed token to a hot lane, and to nobody else (S22).

        A replacement may move another amount: a higher fee comes out of the coin itself.
        """
        if request.own_path is None or request.change_paths or request.approvals:
            raise Refused(RefusalCode.BAD_REQUEST, "a sweep names the hot lane and nothing else")
        target = parse_path(request.own_path, network)
        if tx.sender.role is not Role.DEPOSIT:
            raise Refused(RefusalCode.BAD_PATH, "a sweep leaves from a deposit address")
        if target.role is not Role.HOT or target.index >= HOT_LANES_MAX:
            raise Refused(RefusalCode.BAD_PATH, "a sweep goes to a hot lane")
        hot = self._keyring.evm_address(target)
        if tx.batch is not None or tx.destination != hot:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, f"it does not pay {target.text}")
        swept = hash_of(["sweep", tx.asset, hot.hex()])
        return self._at_nonce(request, tx, network, now, swept)

    def collect(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """The collector's own gas account asks deposit addresses, which it may first let delegate
        to the collector: money goes to hot lane 0, which stands in the collector's code (S22)."""
        if tx.collect is None or request.own_path is not None or request.approvals:
            raise Refused(RefusalCode.BAD_REQUEST, "a collect names its deposits and nothing else")
        if tx.sender.role is not Role.GAS or tx.sender.index != SENDER_INDEX:
            raise Refused(RefusalCode.BAD_PATH, "the collector obeys gas account 0")
        for path, nonce in tx.collect.authorised:
            account = self._keyring.evm_address(path).hex()
            if rows.nonce_family(self._store, network=network.name, account=account, nonce=nonce):
                # What was signed there could never be mined beside it.
                reason = f"nonce {nonce} of {path.text} belongs to a signed tx"
                raise Refused(RefusalCode.NONCE_USED, reason)
        said = [
            [[path.text, number] for path, number in part]
            for part in (tx.collect.legs, tx.collect.authorised)
        ]
        return self._at_nonce(request, tx, network, now, hash_of(["collect", tx.asset, *said]))

    def safe_refill(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """A Safe that people pinned as cold gives to a hot lane, as its owners signed elsewhere:
        gas is all that leaves, and it has the sweeps' counter."""
        if tx.safe is None or request.own_path is None or request.change_paths or request.approvals:
            raise Refused(RefusalCode.BAD_REQUEST, "it names the hot lane and nothing else")
        target = parse_path(request.own_path, network)
        if tx.sender.role is not Role.HOT:
            raise Refused(RefusalCode.BAD_PATH, "a Safe is called by a hot lane")
        if target.role is not Role.HOT or target.index >= HOT_LANES_MAX:
            raise Refused(RefusalCode.BAD_PATH, "a refill goes to a hot lane")
        cold_pins.check_pinned(
            self._store,
            self._rules.settings,
            network=network.name,
            place=tx.destination,
            now_seconds=now,
        )
        hot = self._keyring.evm_address(target)
        if tx.safe.to != hot:
            raise Refused(RefusalCode.FOREIGN_OUTPUT, f"it does not pay {target.text}")
        said = ["safe_refill", tx.destination.hex(), tx.asset, hot.hex(), tx.amount_minor]
        return self._at_nonce(request, tx, network, now, hash_of(said))

    def _at_nonce(
        self, request: SignRequest, tx: EvmTx, network: NetworkSettings, now: int, said: str
    ) -> Decision:
        """The first signature of its number, or a replacement that says the same."""
        family = self._rules.nonce_family(tx, network)
        if family is None and request.replaces is not None:
            raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
        if family is not None and request.replaces is None:
            raise Refused(RefusalCode.NONCE_USED, f"nonce {tx.nonce} belongs to another family")
        priors = [] if family is None else rows.family_attempts(self._store, family)
        self._rules.check_exclusive(request, tx, network, priors, said)
        return self._rules.decision(
            request, tx, network, now, family, said, (), (), fees=SWEEP_FEES
        )

    def cpfp(
        self, request: SignRequest, tx: UtxoTx, network: NetworkSettings, now: int
    ) -> Decision:
        """All outputs to own hot or change paths, spending an output of an own earlier tx."""
        if request.own_path is not None:
            parse_path(request.own_path, network)
            if request.own_path not in request.change_paths.values():
                raise Refused(RefusalCode.FOREIGN_OUTPUT, "the own path is not an output")
        child_hash = hash_of(["cpfp"])
        own_moves.check_child(tx, network, child_hash=child_hash, store=self._store)
        self._rules.check_own_outputs(request, tx, network, roles=OWN_UTXO_ROLES, skip=set())
        return self._rules.decision(request, tx, network, now, None, child_hash, (), ())

    def own_move(
        self, request: SignRequest, tx: UtxoTx, network: NetworkSettings, now: int
    ) -> Decision:
        """Own free coins to own change, with a fee counter of its own (CONTRACT 8)."""
        own_moves.check(request, tx, network, store=self._store)
        self._rules.check_own_outputs(request, tx, network, roles=(Role.CHANGE,), skip=set())
        scope = f"moves:{network.name}"
        self._rules.check_window(
            scope, tx.fee_minor, network.move_fee_day_max_minor, DAY_SECONDS, now
        )
        moved = hash_of([request.purpose.value])
        counted = ((scope, tx.fee_minor),)
        return self._rules.decision(request, tx, network, now, None, moved, (), counted)
