"""`POST /v1/withdrawals/check`: the dry run of an order (W7).

It answers what an order with this body would come to now, by the acceptance rules themselves, and
what it would cost and take. It stores nothing, not even its nonce, and reserves nothing.
"""

from dataclasses import dataclass

from config.assets import AssetSpec
from config.chains import ChainSpec
from config.database import Uow
from gateway import clients_store, withdrawals_store
from gateway.api import orders
from gateway.api.endpoint import Answer, Call, Services, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_resources import WithdrawalCheckIn
from gateway.api.wire_withdrawals import (
    NetworkFeeEstimate,
    SecondsEta,
    WithdrawalCheck,
    WithdrawalEta,
    WouldBe,
)
from gateway.api.withdrawals import READ, refuse_stopped
from gateway.auth import PrincipalKind
from gateway.errors import NotFound
from gateway.payouts import acceptance, attempts, funds, store
from gateway.payouts.acceptance import BalanceMode, Order, Verdict
from gateway.payouts.limits import LimitTerms
from gateway.payouts.network_fee import NetworkFee
from gateway.payouts.withdrawals import CLEARING, State
from ledger import accounts, balances
from watchers import eta, switches
from watchers.eta import Eta
from watchers.switches import Action

HISTORY = 200  # payouts that say how long it takes until `sent`
HISTORY_MIN = 20  # fewer say nothing: the promise does
PASS_SECONDS = 5  # planning, signing and sending, behind the batch window


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the brand's own view says."""

    order: Order
    verdict: Verdict
    fee: NetworkFee
    sent: SecondsEta
    final: Eta | None


@endpoint(
    "POST",
    "/v1/withdrawals/check",
    "The dry run of an order: would it be accepted, why not, what fee, how long. Stores nothing.",
    answers=WithdrawalCheck,
    body=WithdrawalCheckIn,
    scopes=READ,
    kinds=frozenset({PrincipalKind.CLIENT}),
    prepare=orders.destination,
    is_dry=True,
)
async def check_withdrawal(call: Call) -> Answer:
    """What an order would come to; 503 `accept_stopped` as the order itself."""
    body: WithdrawalCheckIn = call.body
    asset = orders.asset_of(call.services, body.asset)
    await orders.refuse_house(call, body, call.prepared)
    order = await orders.read_order(call, body, call.prepared)
    await refuse_stopped(call, order)
    mode = await clients_store.balance_mode(call.uow, order.brand)
    if mode is None:
        raise NotFound
    spec = call.services.registry.chains[order.network]
    policy = call.services.registry.policy.classes[order.fee_class]
    found = _Found(
        order=order,
        verdict=await acceptance.foresee(
            call.uow,
            order,
            balance_mode=BalanceMode(mode),
            terms=LimitTerms.of(call.services.registry),
            at=call.at,
        ),
        fee=await orders.fee_of(call, body, asset, call.prepared),
        sent=await _until_sent(call, order, policy.promise_seconds),
        final=await eta.to_final(
            call.uow,
            spec,
            target_blocks=policy.inclusion_blocks[spec.family],
            full_depth=asset.tier(order.amount_minor).full_depth,
        ),
    )

    async def later() -> Answer:
        async with call.services.database.unit_of_work() as uow:  # hot wallets are the operator's
            waits_for = await _waits_for(uow, found, spec)
        return Answer(body=_wire(call.services, found, asset, waits_for))

    return Answer(body=None, later=later)


async def _until_sent(call: Call, order: Order, promise_seconds: int) -> SecondsEta:
    """By what was sent before; else within the promise, after the class's batch window."""
    count, p50, p90 = await withdrawals_store.seconds_to_sent(
        call.uow,
        brand=order.brand,
        network=order.network,
        fee_class=order.fee_class,
        limit=HISTORY,
    )
    if count >= HISTORY_MIN:
        return SecondsEta(p50_seconds=p50, p90_seconds=p90)
    window = call.services.registry.settings.payouts.batch(order.fee_class).window_seconds
    guess = min(window // 2 + PASS_SECONDS, promise_seconds)
    return SecondsEta(p50_seconds=guess, p90_seconds=promise_seconds)


async def _waits_for(uow: Uow, found: _Found, spec: ChainSpec) -> list[str]:
    """What would hold it up now, as codes; `uow` sees all brands."""
    order, verdict = found.order, found.verdict
    if verdict.state is State.REJECTED:
        return []
    if verdict.state is State.WAITING_LIQUIDITY:
        return [CLEARING]
    reasons = ["approval"] if verdict.state is State.PENDING_APPROVAL else []
    for action in (Action.BUILD, Action.SIGN, Action.BROADCAST):
        stopped = await switches.stopped(uow, network=order.network, action=action)
        if stopped.covers(order.asset):
            reasons.append("switch")
            break
    hot = await balances.balance(uow, accounts.custody(order.network, "hot", order.asset))
    taken = await store.committed(uow, network=order.network, states=attempts.ON_ITS_WAY)
    if hot - taken.get(order.asset, 0) < _output(order):
        reasons.append(funds.HOT_WALLET)
    if found.fee.native_minor is None:
        reasons.append("fees")
    elif await balances.fee_capital(uow, spec.native_asset) < found.fee.native_minor:
        reasons.append(funds.FEE_CAPITAL)
    return reasons


def _output(order: Order) -> int:
    charged = 0 if order.charge is None else order.charge.fee_minor or 0
    return order.amount_minor - charged


def _wire(
    services: Services, found: _Found, asset: AssetSpec, waits_for: list[str]
) -> WithdrawalCheck:
    order, wire = found.order, services.wire
    native = services.registry.chains[order.network].native_asset
    charged = None if order.charge is None else order.charge.fee_minor
    fee_minor = found.fee.native_minor
    is_going = found.verdict.state is State.QUEUED and not waits_for
    return WithdrawalCheck(
        brand=order.brand,
        livemode=wire.livemode,
        asset=asset.id,
        amount=wire.amount(order.amount_minor, asset.id),
        amount_minor=str(order.amount_minor),
        amount_out=wire.amount(_output(order), asset.id),
        amount_out_minor=str(_output(order)),
        fee_mode="brand" if order.charge is None else "player",
        fee_charged=None if charged is None else wire.amount(charged, asset.id),
        fee_charged_minor=None if charged is None else str(charged),
        would_be=WouldBe(state=found.verdict.state.value, code=found.verdict.code),
        waits_for=waits_for,
        network_fee_estimate=None
        if fee_minor is None
        else NetworkFeeEstimate(
            asset=native, amount=wire.amount(fee_minor, native), amount_minor=str(fee_minor)
        ),
        eta=_eta(found) if is_going else None,
        promise_at=rfc3339(order.promise_at),
    )


def _eta(found: _Found) -> WithdrawalEta:
    sent, final = found.sent, found.final
    return WithdrawalEta(
        sent=sent,
        completed=None
        if final is None
        else SecondsEta(
            p50_seconds=sent.p50_seconds + final.p50_seconds,
            p90_seconds=sent.p90_seconds + final.p90_seconds,
        ),
    )
