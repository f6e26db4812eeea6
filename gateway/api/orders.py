"""From the fields of an order's body to an `Order` of the acceptance rules.

Owns what is malformed about an order: that is refused with 4xx and stores nothing. What a rule
refuses is not here, it becomes an object (CONTRACT 1). One item of a batch is read as an order is.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from config.assets import AssetSpec
from gateway.api.endpoint import Call, Services
from gateway.api.wire_resources import WithdrawalIn
from gateway.errors import Invalid, invalid_field
from gateway.payouts import network_fee
from gateway.payouts.acceptance import Charge, Order
from gateway.payouts.network_fee import Market, NetworkFee
from ledger.errors import AmountError
from ledger.money import parse_amount, parse_balance
from watchers import addresses
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Destination
from watchers.errors import InvalidAddress

# The signer's grammar too: what it would refuse is refused here, before the PAM is told yes.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|\+00:00)", re.ASCII
)


async def destination(services: Services, body: WithdrawalIn) -> Destination:
    """The parsed address; whether it is the house's own is asked in the call's unit of work."""
    return parse_destination(services, body)


async def refuse_house(call: Call, body: WithdrawalIn, found: Destination) -> None:
    """Own hot, change and gas addresses are no destinations (A20). They never stop being own."""
    network = asset_of(call.services, body.asset).network
    if await addresses.is_of_the_house(call.uow, network=network, key=found.key):
        raise own_address()


def is_of_the_house(own: AddressRow | None) -> bool:
    """Whether an address is ours and no player's."""
    return own is not None and (own.role is not AddressRole.DEPOSIT or own.player_id is None)


def own_address() -> Invalid:
    """The refusal of a destination of the house."""
    return invalid_field("address", "own_address", "This address belongs to the gateway.")


def parse_destination(services: Services, body: WithdrawalIn) -> Destination:
    """The address as the network's codec reads it, and no token's contract (A14-A19)."""
    return parse_address(services, asset_of(services, body.asset), body.address)


def parse_address(services: Services, asset: AssetSpec, address: str) -> Destination:
    """An address that an asset is paid to; raises Invalid."""
    try:
        found = services.codecs[asset.network].parse(address)
    except InvalidAddress as error:
        raise invalid_field(
            "address", "invalid_address", f"{error.reason}; {error.remedy}"
        ) from error
    contracts = {
        spec.contract.lower()
        for spec in services.registry.assets.values()
        if spec.network == asset.network and spec.contract is not None
    }
    if found.key.lower() in contracts:  # A18
        raise invalid_field("address", "invalid_address", "This is the contract of a token.")
    return found


async def read_order(
    call: Call, body: WithdrawalIn, destination: Destination, *, batch_id: UUID | None = None
) -> Order:
    """The order of a call; raises Invalid for what is malformed."""
    market = await market_of(call, [body])
    return order_of(call, body, destination, market=market, batch_id=batch_id)


def order_of(
    call: Call,
    body: WithdrawalIn,
    destination: Destination,
    *,
    market: Market,
    batch_id: UUID | None,
) -> Order:
    """The order of a call by the fees and rates of `market`; raises Invalid for what is malformed.

    It reads no row.
    """
    services = call.services
    asset = asset_of(services, body.asset)
    amount_minor = _amount("amount", body.amount, asset)
    max_fee_minor = _max_fee(body, asset, amount_minor)
    charge = None
    if max_fee_minor is not None:
        fee = network_fee.estimate_by(
            market,
            services.registry,
            asset=asset,
            key=destination.key,
            fee_class=body.fee_class,
        )
        charge = Charge.of(fee, max_minor=max_fee_minor)
    return Order(
        brand=call.require_brand(),
        request_id=body.request_id,
        player_id=body.player_id,
        network=asset.network,
        asset=asset.id,
        address=destination.address,
        address_key=destination.key,
        amount_minor=amount_minor,
        pam_balance_minor=_balance("pam_balance", body.pam_balance, asset),
        minimum_minor=asset.minimum_withdrawal_minor,
        fee_class=body.fee_class,
        metadata=_metadata(body.metadata),
        valid_until=_valid_until(call, body.valid_until),
        promise_at=call.at
        + timedelta(seconds=services.registry.policy.classes[body.fee_class].promise_seconds),
        key_id=call.principal.key_id,
        signed=call.caller.signed,
        charge=charge,
        batch_id=batch_id,
    )


async def market_of(call: Call, bodies: Iterable[WithdrawalIn]) -> Market:
    """What the fees of these orders are told by: nothing where the brand pays all of them."""
    assets = call.services.registry.assets
    asked = {body.asset for body in bodies if body.fee_mode == "player"} & set(assets)
    return await network_fee.market(
        call.uow, call.services.registry, [assets[name] for name in sorted(asked)], at=call.at
    )


async def fee_of(
    call: Call, body: WithdrawalIn, asset: AssetSpec, destination: Destination
) -> NetworkFee:
    """What paying this is expected to cost now."""
    return await network_fee.estimate(
        call.uow,
        call.services.registry,
        asset=asset,
        key=destination.key,
        fee_class=body.fee_class,
        at=call.at,
    )


def asset_of(services: Services, asset_id: str) -> AssetSpec:
    """The asset; raises Invalid for one that is not served."""
    asset = services.registry.assets.get(asset_id)
    if asset is None:
        raise invalid_field("asset", "unknown_asset", "This asset is not served.")
    return asset


def _amount(field: str, text: str, asset: AssetSpec) -> int:
    try:
        return parse_amount(text, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field(field, "invalid_amount", str(error)) from error


def _balance(field: str, text: str, asset: AssetSpec) -> int:
    """What may be zero: a balance after the debit, or a maximum."""
    try:
        return parse_balance(text, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field(field, "invalid_amount", str(error)) from error


def _max_fee(body: WithdrawalIn, asset: AssetSpec, amount_minor: int) -> int | None:
    """As the signer reads it: required with `player`, where it leaves something to pay."""
    if body.fee_mode == "brand":
        if body.max_fee is not None:
            raise invalid_field("max_fee", "not_allowed", "It belongs to fee_mode player.")
        return None
    if body.max_fee is None:
        raise invalid_field("max_fee", "required", "It is required with fee_mode player.")
    most = _balance("max_fee", body.max_fee, asset)
    if most >= amount_minor:
        raise invalid_field("max_fee", "too_high", "It must be below the amount.")
    return most


def _valid_until(call: Call, text: str | None) -> datetime:
    """By default and at most so long after the signature's `created` (CONTRACT 3)."""
    limits = call.services.registry.policy.limits
    created = call.caller.created
    if text is None:
        return created + timedelta(seconds=limits.valid_until_default_seconds)
    moment = until(call, text)
    if moment > created + timedelta(seconds=limits.valid_until_max_seconds):
        raise invalid_field("valid_until", "too_far", "At most 30 days after `created`.")
    return moment


def until(call: Call, text: str) -> datetime:
    """A `valid_until` that has not passed, in the signer's grammar; raises Invalid."""
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise invalid_field("valid_until", "invalid", "RFC 3339 in UTC is required.")
    moment = moment.astimezone(UTC)
    if moment <= call.at:
        raise invalid_field("valid_until", "passed", "This moment has passed.")
    return moment


def _metadata(value: Mapping[str, str] | None) -> Mapping[str, str]:
    for key, item in (value or {}).items():
        is_long = len(key) > 64 or len(item) > 512
        if is_long or "\x00" in key or "\x00" in item:
            raise invalid_field(
                "metadata", "invalid", "Keys up to 64, values up to 512 characters, no NUL."
            )
    return value or {}
