"""`GET /v1/networks`, `GET /v1/assets`: what this deployment serves."""

from config.assets import AssetSpec
from config.chains import ChainSpec
from gateway.api.endpoint import Call, endpoint
from gateway.api.wire_base import WireContext, optional_time, rfc3339
from gateway.api.wire_query import Page, PageQuery
from gateway.api.wire_resources import AssetOut, FeeClassOut, NetworkOut, NodeOut, TierOut
from watchers import eta, fees, health, switches
from watchers.chain import FeeQuote
from watchers.eta import Pace
from watchers.health import NetworkStatus, NodeStatus


@endpoint(
    "GET",
    "/v1/networks",
    "Networks with height, lag and fees.",
    answers=Page[NetworkOut],
    query=PageQuery,
)
async def list_networks(call: Call) -> Page[NetworkOut]:
    """Every configured network, watched or not yet."""
    statuses = {status.network: status for status in await health.network_status(call.uow)}
    nodes: dict[str, list[NodeStatus]] = {}
    for node in await health.node_status(call.uow):
        nodes.setdefault(node.network, []).append(node)
    used = await switches.every(call.uow)
    items = []
    for name, spec in call.services.registry.chains.items():
        sample = await fees.latest(call.uow, network=name)
        quote = None if sample is None else sample.quote
        off = switches.names_of(used, network=name)
        pace = await eta.pace(call.uow, spec)
        told = [_node(call, number, node) for number, node in enumerate(nodes.get(name, ()), 1)]
        items.append(_network(call, spec, statuses.get(name), quote, off, pace, told))
    return Page[NetworkOut](items=items, next_cursor=None)


@endpoint(
    "GET", "/v1/assets", "Assets with minimums and tiers.", answers=Page[AssetOut], query=PageQuery
)
async def list_assets(call: Call) -> Page[AssetOut]:
    """Every enabled asset."""
    wire = call.services.wire
    items = [_asset(spec, wire) for spec in call.services.registry.assets.values()]
    return Page[AssetOut](items=items, next_cursor=None)


def _network(
    call: Call,
    spec: ChainSpec,
    status: NetworkStatus | None,
    quote: FeeQuote | None,
    off: list[str],
    pace: Pace,
    nodes: list[NodeOut],
) -> NetworkOut:
    return NetworkOut(
        network=spec.network,
        chain=spec.chain,
        family=spec.family.value,
        caip2=spec.caip2,
        livemode=spec.is_live,
        height=status.height if status else None,
        block_hash=status.hash if status else None,
        tip_height=status.tip_height if status else None,
        finalised_height=status.finalised_height if status else None,
        lag_blocks=status.lag_blocks if status else None,
        nodes_total=status.nodes_total if status else 0,
        nodes_agreeing=status.nodes_agreeing if status else 0,
        quorum=call.services.registry.settings.networks[spec.network].quorum,
        nodes=nodes,
        is_healthy=status.is_healthy if status else False,
        stopped_reason=status.stopped_reason if status else None,
        switches=off,
        fee_classes=_fee_classes(call, spec, quote, pace),
        block_interval_ms=pace.mean_ms,
        observed_at=optional_time(status.observed_at) if status else None,
    )


def _node(call: Call, number: int, node: NodeStatus) -> NodeOut:
    """One node; a caller of one brand learns its state, not where it stands in our house."""
    is_ours = call.principal.brand is None
    return NodeOut(
        node=node.label if is_ours else f"node-{number}",
        state=node.state.value,
        reason=(node.reason or None) if is_ours else None,
        since=rfc3339(node.since),
        height=node.height,
        version=(node.version or None) if is_ours else None,
        observed_at=rfc3339(node.observed_at),
    )


def _fee_classes(
    call: Call, spec: ChainSpec, quote: FeeQuote | None, pace: Pace
) -> list[FeeClassOut]:
    found = []
    for name, policy in call.services.registry.policy.classes.items():
        target = policy.inclusion_blocks[spec.family]
        times = eta.time_of(pace, eta.within(target))
        found.append(
            FeeClassOut(
                fee_class=name,
                promise_seconds=policy.promise_seconds,
                target_blocks=target,
                eta_seconds=target * spec.block_seconds,
                eta_p50_seconds=times.p50_seconds,
                eta_p90_seconds=times.p90_seconds,
                rate=None if quote is None else _rate(quote, target),
            )
        )
    return found


def _rate(quote: FeeQuote, target: int) -> str | None:
    """The rate of the slowest sampled target that is still within `target`, else the fastest."""
    if not quote.rates:
        return None
    within = [sampled for sampled in quote.rates if sampled <= target]
    return str(quote.base_fee + quote.rates[max(within) if within else min(quote.rates)])


def _asset(spec: AssetSpec, wire: WireContext) -> AssetOut:
    return AssetOut(
        asset=spec.id,
        network=spec.network,
        symbol=spec.symbol,
        caip19=spec.caip19,
        contract=spec.contract,
        decimals=spec.decimals,
        minimum_deposit=wire.amount(spec.minimum_deposit_minor, spec.id),
        minimum_withdrawal=wire.amount(spec.minimum_withdrawal_minor, spec.id),
        tiers=[
            TierOut(
                up_to=None if tier.up_to_minor is None else wire.amount(tier.up_to_minor, spec.id),
                min_confirmations=tier.min_depth,
                full_confirmations=tier.full_depth,
            )
            for tier in spec.tiers
        ],
    )
