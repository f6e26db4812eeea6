"""What two people of the staff approved: their signed requests, read strictly (S15).

A body says exactly what it approves; any other value is another approval. Which payments need one
is decided in `policy`. It must not look at the tx.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from signer.authorisation import StaffRequests
from signer.errors import RefusalCode, Refused
from signer.orders import Order, amount_minor, moment_seconds
from signer.protocol import Authorisation, ProtocolError, strict_loads
from signer.schemes.address import place_of
from signer.settings import NetworkSettings, Settings
from signer.store import Store

PEOPLE_NEEDED = 2
BODY_BYTES_MAX = 64 * 1024  # CONTRACT 3


class Action(StrEnum):
    """What people approve; it is the last part of the request's path and in its body."""

    APPROVE = "approve"
    """A first signature above the dual limit."""
    REISSUE = "reissue"
    """A new family: every txid that was signed is dead."""
    ABORT = "abort"
    """A tx instead of the payment."""
    REFUND = "refund"
    """A deposit goes back, from hot coins."""
    RECOVERY = "recovery"
    """What came to a deposit path and never into custody goes back."""


_REFUNDS = (Action.REFUND, Action.RECOVERY)
_ROUTES = {
    action: re.compile(
        rf"/v1/{'deposits/dep' if action in _REFUNDS else 'withdrawals/wd'}"
        rf"_[A-Za-z0-9_-]{{1,120}}/{action.value}",
        re.ASCII,
    )
    for action in Action
}
_DEPOSIT = re.compile(r"dep_[A-Za-z0-9_-]{1,120}", re.ASCII)
_SUBJECT = {"action", "brand", "request_id"}
_SENT_BACK = {"action", "deposit_id", "asset", "address", "amount", "valid_until"}
_FIELDS = {
    Action.APPROVE: _SUBJECT | {"asset", "address", "amount"},
    Action.REISSUE: _SUBJECT | {"dead_txids"},
    Action.ABORT: _SUBJECT | {"txid"},
    Action.REFUND: _SENT_BACK,
    Action.RECOVERY: _SENT_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """What two people send back, by its meaning: `place` is a script, or an account's 20 bytes."""

    deposit_id: str
    asset: str
    place: bytes
    amount_minor: int
    valid_until_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approval:
    person: str
    action: Action
    path: str
    body: dict[str, Any]


class Approvals:
    """The approvals that came with one question. They are verified when first asked for."""

    def __init__(
        self, claims: Sequence[Authorisation], *, store: Store, settings: Settings, now_seconds: int
    ) -> None:
        self._claims = claims
        self._requests = StaffRequests(store=store, settings=settings, now_seconds=now_seconds)
        self._read: list[_Approval] | None = None
        self._flaw = ""

    def require_payment(self, brand: str, order: Order, network: NetworkSettings) -> None:
        """Two people approve this very payment; raises Refused (`needs_staff`)."""

        def covers(body: dict[str, Any]) -> bool:
            try:
                amount = amount_minor(
                    body["amount"],
                    decimals=network.assets[order.asset].decimals,
                    field="amount",
                )
                is_there = place_of(body["address"], network) == place_of(order.address, network)
            except Refused:
                return False
            return is_there and (body["asset"], amount) == (order.asset, order.amount_minor)

        self._require(Action.APPROVE, brand, order.request_id, covers)

    def require_reissue(self, brand: str, request_id: str, txids: Sequence[str]) -> None:
        """Two people call every signed txid of the request dead; raises Refused."""
        self._require(
            Action.REISSUE, brand, request_id, lambda body: body["dead_txids"] == sorted(txids)
        )

    def require_abort(self, brand: str, request_id: str, txids: Sequence[str]) -> None:
        """Two people want a tx of the request stopped; raises Refused."""
        self._require(Action.ABORT, brand, request_id, lambda body: body["txid"] in txids)

    def require_refund(self, action: str, network: NetworkSettings) -> Refund:
        """The one thing that all who signed here send back, two people at least; or Refused."""
        signed = [item for item in self._all() if item.action == action]
        meant = {_refund(item, network) for item in signed}
        if len({item.person for item in signed}) < PEOPLE_NEEDED or len(meant) != 1:
            reason = f"{action} takes {PEOPLE_NEEDED} people who sign the same{self._flaw}"
            raise Refused(RefusalCode.NEEDS_STAFF, reason)
        return meant.pop()

    def _require(
        self, action: Action, brand: str, request_id: str, covers: Callable[[dict[str, Any]], bool]
    ) -> None:
        people = {
            item.person
            for item in self._all()
            if item.action is action
            and (item.body["brand"], item.body["request_id"]) == (brand, request_id)
            and covers(item.body)
        }
        if len(people) < PEOPLE_NEEDED:
            # The name comes first: payouts finds by it which member is meant (P27).
            reason = f"{request_id}: {action.value} takes {PEOPLE_NEEDED} people, has {len(people)}"
            raise Refused(RefusalCode.NEEDS_STAFF, reason + self._flaw)

    def _all(self) -> list[_Approval]:
        """Every approval that holds. One that does not counts for nothing, and is named."""
        if self._read is None:
            self._read = []
            for claim in self._claims:
                try:
                    self._read.append(self._one(claim))
                except Refused as error:
                    self._flaw = f"; an approval does not hold: {error.reason}"
        return self._read

    def _one(self, claim: Authorisation) -> _Approval:
        action = next((a for a, route in _ROUTES.items() if route.fullmatch(claim.path)), None)
        if action is None:
            raise Refused(RefusalCode.NEEDS_STAFF, "not a route of approvals")
        person = self._requests.person(claim, route=_ROUTES[action])
        if len(claim.body) > BODY_BYTES_MAX:
            raise Refused(RefusalCode.NEEDS_STAFF, "the body is too large")
        try:
            body = strict_loads(claim.body)
        except ProtocolError as error:
            raise Refused(RefusalCode.NEEDS_STAFF, f"the body: {error}") from error
        if set(body) != _FIELDS[action] or body["action"] != action.value:
            raise Refused(RefusalCode.NEEDS_STAFF, f"the body is not that of {action.value}")
        return _Approval(person=person, action=action, path=claim.path, body=body)


def _refund(item: _Approval, network: NetworkSettings) -> Refund:
    """What a person's body says; raises Refused where it is not of this network or not whole."""
    body = item.body
    deposit_id, asset = body["deposit_id"], body["asset"]
    if not isinstance(deposit_id, str) or not _DEPOSIT.fullmatch(deposit_id):
        raise Refused(RefusalCode.NEEDS_STAFF, "deposit_id: not a deposit")
    if item.path.split("/")[3] != deposit_id:
        raise Refused(RefusalCode.NEEDS_STAFF, "the path and the body name two deposits")
    if not isinstance(asset, str) or asset not in network.assets:
        raise Refused(RefusalCode.NEEDS_STAFF, "asset: not of this network")
    until = body["valid_until"]
    if not isinstance(until, str):
        raise Refused(RefusalCode.NEEDS_STAFF, "valid_until: a moment is required")
    decimals = network.assets[asset].decimals
    return Refund(
        deposit_id=deposit_id,
        asset=asset,
        place=place_of(body["address"], network),
        amount_minor=amount_minor(body["amount"], decimals=decimals, field="amount"),
        valid_until_seconds=moment_seconds(until),
    )
