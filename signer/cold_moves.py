"""Moves between the operator's wallets: hot to cold, and between hot and warm (CONTRACT 8, S06).

Cold value goes to an address that people pinned a day ago. The pin is the signer's own row, made by
two people on its host; nothing that the gateway says makes an address cold. Hot and warm ends are
re-derived. Each move is within caps of its own. Above a limit, and always where warm is an end, two
people sign its words, which are then carried out once for ever. It writes and signs nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from signer import attempts_store as rows
from signer import cold_pins
from signer.authorisation import StaffRequests
from signer.errors import RefusalCode, Refused
from signer.orders import DAY_SECONDS, amount_minor, moment_seconds
from signer.paths import parse_path
from signer.protocol import ProtocolError, SignRequest, strict_loads
from signer.rules import Decision, Rules, hash_of
from signer.schemes.address import place_of
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import Family, NetworkSettings
from signer.wallet_ways import HOT_LANES_MAX, WAYS, Way

OWNER = "#rebalance"  # what stands for a brand in the rows of paid requests; no brand has this name
PEOPLE_NEEDED = 2
BODY_BYTES_MAX = 4_096
ROUTE = re.compile(r"/v1/rebalances/(reb_[A-Za-z0-9_-]{1,120})/approve", re.ASCII)
_FIELDS = {"rebalance_id", "direction", "network", "asset", "address", "amount", "valid_until"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a tx moves: `place` is a script, or an account's 20 bytes."""

    asset: str
    place: bytes
    amount_minor: int


class ColdMoves:
    """The rules of one signer about what changes its wallet."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._store = rules.store

    def decide(
        self, request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, now: int
    ) -> Decision:
        """Yes with a Decision, or raises Refused."""
        way = WAYS[request.purpose]
        move = _move(request, tx, network, way)
        self._check_target(request, move, network, way, now)
        if isinstance(tx, UtxoTx):
            rest = set(range(len(tx.outputs))) - set(request.change_paths)
            self._rules.check_own_outputs(request, tx, network, roles=(way.change,), skip=rest)
        agreed = self._agreed(request, move, network, now)
        if way.is_always_agreed and agreed is None:
            raise Refused(RefusalCode.NEEDS_STAFF, f"each such move takes {PEOPLE_NEEDED}")
        pairs = () if agreed is None else ((OWNER, agreed[0]),)
        family = self._family(request, tx, network, pairs)
        said = hash_of([way.direction, move.asset, move.place.hex(), move.amount_minor])
        priors = [] if family is None else rows.family_attempts(self._store, family)
        self._check_coins(tx, network, priors)
        counted: tuple[tuple[str, int], ...] = ()
        if family is None:
            if request.replaces is not None:
                raise Refused(RefusalCode.ALREADY_PAID, "nothing of this family was signed")
            counted = self._check_caps(move, agreed, network, way, now)
        self._rules.check_exclusive(request, tx, network, priors, said)
        return self._rules.decision(request, tx, network, now, family, said, pairs, counted)

    def _check_target(
        self, request: SignRequest, move: Move, network: NetworkSettings, way: Way, now: int
    ) -> None:
        """The pinned address, or the own one that the question names, re-derived."""
        if way.target is None:
            cold_pins.check_pinned(
                self._store,
                self._rules.settings,
                network=network.name,
                place=move.place,
                now_seconds=now,
            )
            return
        target, keyring = parse_path(request.own_path or "", network), self._rules.keyring
        if target.role is not way.target or target.index >= HOT_LANES_MAX:
            raise Refused(RefusalCode.BAD_PATH, f"{target.text} is not {way.target.value}")
        is_utxo = network.family is Family.BITCOIN
        if move.place != (keyring.script(target) if is_utxo else keyring.evm_address(target)):
            raise Refused(RefusalCode.FOREIGN_OUTPUT, f"it does not pay {target.text}")

    def _family(
        self,
        request: SignRequest,
        tx: UtxoTx | EvmTx,
        network: NetworkSettings,
        pairs: Sequence[tuple[str, str]],
    ) -> str | None:
        """What it belongs to: the move that two people signed, else what it says it replaces."""
        by_people = next(iter(rows.paid_families(self._store, pairs).values()), None)
        by_name = (
            None if request.replaces is None else rows.family_of(self._store, request.replaces)
        )
        if by_people is not None and by_name is not None and by_people != by_name:
            raise Refused(RefusalCode.ALREADY_PAID, "it replaces a tx of another move")
        return by_people or by_name

    def _check_coins(
        self, tx: UtxoTx | EvmTx, network: NetworkSettings, priors: Sequence[rows.PriorAttempt]
    ) -> None:
        """No coin that somebody's signed payout spends: that would abort it."""
        if not isinstance(tx, UtxoTx):
            return
        own = frozenset[str]().union(*(prior.outpoints for prior in priors))
        for outpoint in tx.outpoints - own:
            if rows.is_signed_input(self._store, network=network.name, outpoint=outpoint):
                raise Refused(RefusalCode.NOT_EXCLUSIVE, f"{outpoint} is an input of a signed tx")

    def _check_caps(
        self,
        move: Move,
        agreed: tuple[str, int] | None,
        network: NetworkSettings,
        way: Way,
        now: int,
    ) -> tuple[tuple[str, int], ...]:
        limits, scope = network.assets[move.asset], f"{way.scope}:{move.asset}"
        most, day = way.caps(limits)
        if move.amount_minor > most:
            raise Refused(RefusalCode.CAP_EXCEEDED, f"over the cap of one {way.direction}")
        self._rules.check_window(scope, move.amount_minor, day, DAY_SECONDS, now)
        if agreed is None and move.amount_minor > limits.cold_dual_limit_minor:
            raise Refused(RefusalCode.NEEDS_STAFF, f"a move this large takes {PEOPLE_NEEDED}")
        if agreed is not None and agreed[1] <= now:
            raise Refused(RefusalCode.EXPIRED, f"{agreed[0]}: past valid_until")
        return ((scope, move.amount_minor),)

    def _agreed(
        self, request: SignRequest, move: Move, network: NetworkSettings, now: int
    ) -> tuple[str, int] | None:
        """(id, valid until) of the one rebalance that two people signed and this is; None where
        nobody signed, or too few for it: then only its size decides. Raises Refused for words of
        another move: what was signed for one is never used for another."""
        staff = StaffRequests(store=self._store, settings=self._rules.settings, now_seconds=now)
        way = WAYS[request.purpose]
        people: dict[tuple[str, int], set[str]] = {}
        flaw: Refused | None = None
        for claim in request.approvals:
            try:
                person = staff.person(claim, route=ROUTE)
                words = _read(claim.path, claim.body, move, network, way)
            except Refused as error:
                flaw = error
                continue
            people.setdefault(words, set()).add(person)
        found = [words for words, signed in people.items() if len(signed) >= PEOPLE_NEEDED]
        if len(found) > 1:
            raise Refused(RefusalCode.NEEDS_STAFF, "two rebalances were signed for one tx")
        if not found and flaw is not None:
            raise Refused(RefusalCode.NEEDS_STAFF, f"an approval does not hold: {flaw.reason}")
        return found[0] if found else None


def _move(request: SignRequest, tx: UtxoTx | EvmTx, network: NetworkSettings, way: Way) -> Move:
    if (request.own_path is None) is not (way.target is None):
        raise Refused(RefusalCode.BAD_REQUEST, "to cold without an own path, elsewhere with one")
    if isinstance(tx, UtxoTx):
        rest = [index for index in range(len(tx.outputs)) if index not in request.change_paths]
        if len(rest) != 1:
            raise Refused(RefusalCode.FORBIDDEN_SHAPE, "one output that is not change")
        if any(item.path.role not in way.sources for item in tx.inputs):
            raise Refused(RefusalCode.BAD_PATH, f"not from {way.lane.value} coins")
        output = tx.outputs[rest[0]]
        return Move(
            asset=network.native.asset, place=output.script, amount_minor=output.amount_minor
        )
    if tx.batch is not None or request.change_paths or tx.is_noop:
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a move is one transfer")
    if tx.sender.role is not way.lane:
        raise Refused(RefusalCode.BAD_PATH, f"not from a {way.lane.value} account")
    return Move(asset=tx.asset, place=tx.destination, amount_minor=tx.amount_minor)


def _read(
    path: str, body: bytes, move: Move, network: NetworkSettings, way: Way
) -> tuple[str, int]:
    """(rebalance id, valid until) of a body that says exactly this move; raises Refused."""
    match = ROUTE.fullmatch(path)
    if match is None or len(body) > BODY_BYTES_MAX:
        raise _other("not an approval of a rebalance")
    try:
        raw: dict[str, Any] = strict_loads(body)
    except ProtocolError as error:
        raise _other(f"the body: {error}") from error
    if set(raw) != _FIELDS or any(not isinstance(item, str) for item in raw.values()):
        raise _other("the body is not that of an approval")
    if raw["rebalance_id"] != match.group(1):
        raise _other("the path and the body name two rebalances")
    if (raw["direction"], raw["network"]) != (way.direction, network.name):
        raise _other("signed for something else")
    decimals = network.assets[move.asset].decimals
    said = (
        raw["asset"],
        place_of(raw["address"], network),
        amount_minor(raw["amount"], decimals=decimals, field="amount"),
    )
    if said != (move.asset, move.place, move.amount_minor):
        raise _other("signed for another asset, address or amount")
    return raw["rebalance_id"], moment_seconds(raw["valid_until"])


def _other(reason: str) -> Refused:
    return Refused(RefusalCode.NEEDS_STAFF, reason)
