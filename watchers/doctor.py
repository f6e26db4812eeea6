"""Why a deposit is or is not credited: from what stands and what the nodes said, to findings.

Pure: it reads no row and asks no node (FEATURES N10). It decides nothing; a wrong word here moves
no money. Findings are ordered: the deposit's own state first, then what stands in its way, then
what is good to know, then whether the casino was told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.assets import AssetSpec
from ledger.money import format_amount
from watchers.chain import FeeQuote
from watchers.deposits import DepositRow, DepositState
from watchers.eta import DepositEta
from watchers.exposure import SUBSTATUS as EXPOSURE_CAP
from watchers.findings import Finding, FindingCode, Severity
from watchers.unsupported import Substatus

_C, _S = FindingCode, DepositState


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """How a network stands. `error` None: its nodes answer and agree. `stopped`: what of it gets
    no credit, by scope in words -> reason. `silent_since`: nobody has looked since then."""

    name: str
    height: int | None = None
    tip_height: int | None = None
    lag_allowed_blocks: int = 5
    error: str | None = None
    silent_since: datetime | None = None
    stopped_reason: str | None = None
    stopped_assets: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The webhooks of a deposit's events, by how they stand."""

    delivered: int = 0
    pending: int = 0
    failing: int = 0
    parked: int = 0
    last_type: str = ""
    last_answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositFacts:
    """A deposit with everything that may explain it. `fee_rate`: of its unconfirmed tx; sat per
    kvB, or wei per gas. `is_rate_fresh` None: no cap asks for a rate."""

    deposit: DepositRow
    network: NetworkFacts
    asset: AssetSpec | None
    eta: DepositEta | None = None
    is_retired: bool = False
    is_rate_fresh: bool | None = None
    fee_rate: int | None = None
    quote: FeeQuote | None = None
    told: Told = Told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pay:
    """A transfer of a looked-up tx to a visible own key. `meant` is the network whose address the
    key is; `stands` is `deposit`, the state of an inflow, or None. `is_other_script`: it pays not
    `address`, but another script of the same public key (D26)."""

    position: str
    asset: str
    is_listed: bool
    amount_minor: int
    address: str
    meant: str
    role: str
    player_id: str | None
    stands: str | None
    search: str | None
    is_other_script: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one network said of a txid. `place` None: it gave no answer, `error` says why; without
    an error it was asked and has not answered yet."""

    network: str
    place: str | None
    error: str | None = None
    is_success: bool | None = None
    height: int | None = None
    followed_height: int | None = None
    first_height: int | None = None
    fee_rate: int | None = None
    is_untraced: bool = False
    pays: tuple[Pay, ...] = ()


def is_credited(deposit: DepositRow) -> bool:
    """Whether the player may at least play with it now."""
    return deposit.state in (_S.PROVISIONAL, _S.FINAL)


def of_deposit(facts: DepositFacts) -> list[Finding]:
    """Everything to say about one deposit, the cause first; never empty."""
    deposit = facts.deposit
    found = [_state(facts)]
    if deposit.state is _S.PENDING and deposit.substatus == EXPOSURE_CAP:
        if facts.is_rate_fresh is False:
            found.append(_finding(facts, _C.RATE_STALE, asset=deposit.asset))
    if deposit.state in _WAITING:
        found.extend(_impediments(facts))
    if deposit.is_internal:
        found.append(_finding(facts, _C.INTERNAL))
    if facts.is_retired:
        found.append(_finding(facts, _C.PAID_TO_RETIRED_ADDRESS))
    return [*found, *_told(facts)]


_WAITING = frozenset({_S.DETECTED, _S.PENDING, _S.PROVISIONAL, _S.ORPHANED})

_PLAIN: Mapping[DepositState, FindingCode] = {
    _S.BELOW_MINIMUM: _C.BELOW_MINIMUM,
    _S.ON_HOLD: _C.ON_HOLD,
    _S.ORPHANED: _C.ORPHANED,
    _S.REVERSED: _C.REVERSED,
    _S.REPLACED: _C.REPLACED_BY,
    _S.DROPPED: _C.DROPPED,
    _S.REJECTED: _C.REJECTED,
    _S.REFUNDING: _C.REFUNDING,
    _S.REFUNDED: _C.REFUNDED,
}


def _state(facts: DepositFacts) -> Finding:
    deposit, eta = facts.deposit, facts.eta
    confirmations = _confirmations(facts)
    match deposit.state:
        case DepositState.FINAL:
            return _finding(facts, _C.CREDITED_FINAL, amount=_amount(facts))
        case DepositState.PROVISIONAL:
            return _finding(
                facts,
                _C.CREDITED_PROVISIONAL,
                is_final_eta=True,
                amount=_amount(facts),
                confirmations=str(confirmations),
                full=str(deposit.full_depth),
            )
        case DepositState.DETECTED:
            return _unconfirmed(facts)
        case DepositState.PENDING if deposit.substatus == EXPOSURE_CAP:
            return _finding(facts, _C.EXPOSURE_CAP, is_final_eta=True, full=str(deposit.full_depth))
        case DepositState.PENDING:
            code = _C.CONFIRMING if confirmations < deposit.min_depth else _C.STEP_DUE
            return _finding(
                facts, code, confirmations=str(confirmations), needed=str(deposit.min_depth)
            )
        case DepositState.UNSUPPORTED if deposit.substatus == Substatus.WRONG_NETWORK:
            meant = "another network, by its contract"
            return _finding(facts, _C.WRONG_NETWORK, network=deposit.network, meant=meant)
        case DepositState.UNSUPPORTED:
            return _finding(facts, _C.UNLISTED_TOKEN, asset=deposit.asset)
        case state:
            return Finding(
                code=_PLAIN[state],
                network=deposit.network,
                detail=_plain_detail(facts),
                eta=None if eta is None else eta.provisional,
            )


def _plain_detail(facts: DepositFacts) -> dict[str, str]:
    deposit, asset = facts.deposit, facts.asset
    minimum = None if asset is None else asset.minimum_deposit_minor
    rival = deposit.conflict_txid
    match deposit.state:
        case DepositState.BELOW_MINIMUM:
            shown = "not known" if minimum is None else _text(minimum, deposit.asset, asset)
            return {"amount": _amount(facts), "minimum": shown}
        case DepositState.ON_HOLD:
            return {"reason": deposit.substatus or "a rule that names no reason"}
        case DepositState.REPLACED:
            return {"rival": rival or "one that is not known"}
        case DepositState.REVERSED:
            return {"rival": "" if rival is None else f" ({rival} took its place)"}
        case _:
            return {}


def _unconfirmed(facts: DepositFacts) -> Finding:
    rate, quote = facts.fee_rate, facts.quote
    if rate is not None and quote is not None and is_fee_low(rate, quote):
        return _finding(facts, _C.FEE_LOW_WAITING, fee=str(rate), needed=str(_slowest(quote)))
    return _finding(facts, _C.IN_MEMPOOL_WAITING)


def is_fee_low(rate: int, quote: FeeQuote) -> bool:
    """Below what even the slowest sampled target takes. Sat per kvB, or wei per gas."""
    return bool(quote.rates) and rate < _slowest(quote)


def _slowest(quote: FeeQuote) -> int:
    return quote.base_fee + min(quote.rates.values())


def _confirmations(facts: DepositFacts) -> int:
    height, deposit = facts.network.height, facts.deposit
    if height is None or deposit.height is None:
        return 0
    return max(0, height - deposit.height + 1)


def _finding(
    facts: DepositFacts, code: FindingCode, *, is_final_eta: bool = False, **detail: str
) -> Finding:
    eta = facts.eta
    stage = None if eta is None else (eta.final if is_final_eta else eta.provisional)
    return Finding(
        code=code,
        network=facts.deposit.network,
        detail=detail,
        eta=stage if code in _WITH_ETA else None,
    )


_WITH_ETA = frozenset(
    {
        _C.CREDITED_PROVISIONAL,
        _C.IN_MEMPOOL_WAITING,
        _C.FEE_LOW_WAITING,
        _C.CONFIRMING,
        _C.STEP_DUE,
        _C.EXPOSURE_CAP,
    }
)


def _impediments(facts: DepositFacts) -> list[Finding]:
    """What of the network stands in the way of one deposit."""
    found = of_network(facts.network)
    reason = (facts.network.stopped_assets or {}).get(facts.deposit.asset)
    if reason is not None and facts.network.stopped_reason is None:
        scope = facts.deposit.asset
        found.insert(0, _finding(facts, _C.CREDIT_STOPPED, scope=scope, reason=reason))
    return found


def of_network(network: NetworkFacts) -> list[Finding]:
    """What of a network keeps deposits waiting."""
    found: list[Finding] = []

    def add(code: FindingCode, **detail: str) -> None:
        found.append(Finding(code=code, network=network.name, detail=detail))

    if network.stopped_reason is not None:
        add(_C.CREDIT_STOPPED, scope=network.name, reason=network.stopped_reason)
    if network.silent_since is not None:
        since = network.silent_since.isoformat(timespec="seconds")
        add(_C.WATCHER_SILENT, network=network.name, since=since)
    elif network.error is not None:
        add(_C.NETWORK_DEGRADED, network=network.name, error=network.error)
    tip, height = network.tip_height, network.height
    if tip is not None and height is not None and tip - height > network.lag_allowed_blocks:
        add(_C.WATCHER_BEHIND, network=network.name, tip=str(tip), height=str(height))
    return found


def _told(facts: DepositFacts) -> list[Finding]:
    told = facts.told
    found = [
        _finding(facts, code, count=str(count), answer=told.last_answer)
        for code, count in (
            (_C.WEBHOOKS_PARKED, told.parked),
            (_C.WEBHOOKS_FAILING, told.failing),
            (_C.WEBHOOKS_PENDING, told.pending),
        )
        if count
    ]
    if not found and told.delivered:
        count = str(told.delivered)
        return [_finding(facts, _C.WEBHOOKS_DELIVERED, count=count, last=told.last_type)]
    return found or [_finding(facts, _C.WEBHOOKS_NONE)]


def of_sightings(
    sightings: Sequence[Sighting], quotes: Mapping[str, FeeQuote] | None = None
) -> list[Finding]:
    """What the nodes said of a tx that stands nowhere here; never empty. The network that knows
    the tx speaks alone: the others only say that they do not have it."""
    known = [item for item in sightings if item.place in ("mined", "mempool")]
    if known:
        quotes = quotes or {}
        return [finding for item in known for finding in _sighted(item, quotes)]
    unheard = [_unheard(item) for item in sightings if item.place is None]
    if unheard:
        return unheard
    networks = ", ".join(item.network for item in sightings) or "any network"
    return [Finding(code=_C.NOT_FOUND_ANYWHERE, detail={"networks": networks})]


def _unheard(sighting: Sighting) -> Finding:
    detail = {"network": sighting.network}
    if sighting.error is None:
        return Finding(code=_C.STILL_ASKING, network=sighting.network, detail=detail)
    detail["error"] = sighting.error
    return Finding(code=_C.NODE_UNANSWERED, network=sighting.network, detail=detail)


def _sighted(sighting: Sighting, quotes: Mapping[str, FeeQuote]) -> list[Finding]:
    found = [_pay(sighting, pay, quotes.get(sighting.network)) for pay in sighting.pays]
    if found:
        return list({(item.code, *item.detail.items()): item for item in found}.values())
    detail = {"network": sighting.network}
    found = [Finding(code=_C.PAYS_NO_ADDRESS, network=sighting.network, detail=detail)]
    if sighting.is_untraced:
        found.append(Finding(code=_C.INSIDE_CALL_UNSEEN, network=sighting.network, detail=detail))
    return found


def _pay(sighting: Sighting, pay: Pay, quote: FeeQuote | None) -> Finding:
    """Why one transfer to an own key is no deposit. The order is that of certainty."""
    code, detail = _reason(sighting, pay, quote)
    return Finding(code=code, network=sighting.network, detail=detail)


def _reason(
    sighting: Sighting, pay: Pay, quote: FeeQuote | None
) -> tuple[FindingCode, dict[str, str]]:
    height, followed, first = sighting.height, sighting.followed_height, sighting.first_height
    if sighting.is_success is False:
        return _C.FAILED_TX, {"height": str(height)}
    if pay.meant != sighting.network:
        return _C.WRONG_NETWORK, {"network": sighting.network, "meant": pay.meant}
    if pay.is_other_script:
        return _C.PAID_TO_OTHER_SCRIPT, {"address": pay.address}
    if pay.role != "deposit":
        return _C.PAID_TO_OWN_WALLET, {"role": pay.role}
    if pay.player_id is None or pay.stands not in (None, "deposit"):
        return _C.PAID_TO_UNISSUED_ADDRESS, {"address": pay.address}
    if sighting.place == "mempool":
        rate = sighting.fee_rate
        if rate is not None and quote is not None and is_fee_low(rate, quote):
            return _C.FEE_LOW_WAITING, {"fee": str(rate), "needed": str(_slowest(quote))}
        return _C.IN_MEMPOOL_WAITING, {}
    if height is not None and (followed is None or height > followed):
        shown = "none" if followed is None else str(followed)
        detail = {"network": sighting.network, "tip": str(height), "height": shown}
        return _C.WATCHER_BEHIND, detail
    if pay.search is not None:
        return _C.UNDER_SEARCH, {"kind": pay.search}
    if not pay.is_listed:
        return _C.UNLISTED_TOKEN, {"asset": pay.asset}
    if height is not None and first is not None and height < first:
        detail = {"network": sighting.network, "height": str(height), "first": str(first)}
        return _C.BEFORE_WATCH, detail
    return _C.NOT_RECORDED, {"height": str(height)}


def summary(findings: Sequence[Finding]) -> str:
    """One sentence: the cause, and what stands most in its way."""
    cause = findings[0]
    blocked = [
        item
        for item in findings[1:]
        if item.severity in (Severity.ACT, Severity.ALARM)
        and not item.code.value.startswith("webhooks_")
    ]
    return " ".join([cause.text, *(item.text for item in blocked[:1])])


def _amount(facts: DepositFacts) -> str:
    return _text(facts.deposit.amount_minor, facts.deposit.asset, facts.asset)


def _text(minor: int, asset_id: str, asset: AssetSpec | None) -> str:
    if asset is None:
        return f"{minor} minor units of {asset_id}"
    return f"{format_amount(minor, decimals=asset.decimals)} {asset.symbol}"
