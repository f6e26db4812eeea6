"""A refill from a cold wallet's coins: the PSBT that its owners sign (UTXO chains).

Owns which cold coins are spent and where the rest goes: back to the same wallet. It reserves and
records nothing.
"""

from typing import Final
from uuid import UUID

from config.database import Uow
from gateway.payouts import fee_policy, funds, rebalances
from gateway.payouts.coin_selection import Selection, Terms, select
from gateway.payouts.context import Lane
from gateway.payouts.errors import RefillNotPossible
from gateway.payouts.rebalances_store import RebalanceRow
from watchers import addresses, coins, outgoing, registry
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Coin, Pay, Unsigned
from watchers.coins import CoinRow
from watchers.cold_spends import ColdCoin, ColdPlace, ColdPlan
from watchers.errors import PoolEmpty
from watchers.outgoing import ChangeOutput, OutgoingDraft

FILE_BYTES_MAX: Final = 256 * 1024  # of the unsigned file: comes back in a body of 512 KiB
TARGET_BLOCKS: Final = 2  # people sign it once: hours later it must still be worth mining


async def draft(
    lane: Lane, uow: Uow, row: RebalanceRow, receive: AddressRow
) -> OutgoingDraft | None:
    """What is signed for a refill; its change address is taken. `receive`: the wallet's own. None
    while coins that would do are not final.

    Raises RefillNotPossible, FeesUnknown, FeeAboveCap.
    """
    settings = lane.registry.settings.cold.get(lane.network)
    if settings is None or settings.descriptor is None:
        raise RefillNotPossible("no_cold_wallet")
    known = await coins.cold(uow, network=lane.network, limit=funds.COINS_MAX)
    of_wallet = await _places(lane, uow, receive)
    free = {item.outpoint: item for item in known.free if item.address_id in of_wallet}
    young = [item for item in known.young if item.address_id in of_wallet]
    found = await _select(lane, uow, row, settings.descriptor, list(free.values()), young)
    if found is None:
        return None
    change = None
    if found.change_minor:
        try:
            change = await addresses.cold_change(uow, receive)
        except PoolEmpty as error:
            raise RefillNotPossible("no_change_address") from error
    chosen = sorted(found.coins, key=lambda c: (c.outpoint.txid, c.outpoint.vout))
    plan = ColdPlan(
        descriptor=settings.descriptor,
        coins=tuple(_cold_coin(coin, of_wallet[free[coin.outpoint].address_id]) for coin in chosen),
        payment=Pay(asset=row.asset, address=row.address, amount_minor=row.amount_minor),
        change=None if change is None else _place(change),
        change_minor=found.change_minor,
    )
    unsigned = registry.cold_unsigned(lane.spec, plan)
    if len(unsigned.data) > FILE_BYTES_MAX:
        raise RefillNotPossible("too_many_coins")
    return _recorded(lane, row, unsigned, plan, change)


def _recorded(
    lane: Lane,
    row: RebalanceRow,
    unsigned: Unsigned,
    plan: ColdPlan,
    change: AddressRow | None,
) -> OutgoingDraft:
    attempt_id = lane.ids.new_id()
    progress = registry.cold_progress(lane.spec, unsigned=unsigned.data, signatures=())
    outputs = () if change is None else tuple(unsigned.change_outputs)
    return OutgoingDraft(
        id=attempt_id,
        network=lane.network,
        purpose=outgoing.OUTSIDE_PURPOSE,
        family_id=attempt_id,
        unsigned=unsigned.data,
        payments=(rebalances.payment_of(row),),
        fee_cap_minor=unsigned.fee_minor,
        inputs=tuple(item.coin.outpoint for item in plan.coins),
        change=tuple(
            ChangeOutput(vout=vout, address_id=change.id, amount_minor=plan.change_minor)
            for vout in outputs
            if change is not None
        ),
        expected_txid=progress.txid,
    )


async def _places(lane: Lane, uow: Uow, receive: AddressRow) -> dict[UUID, AddressRow]:
    """The addresses of the wallet that is configured now; those of an older one have another
    descriptor, and are emptied by its owners."""
    rows = await addresses.by_role(uow, network=lane.network, roles=(AddressRole.COLD,))
    return {row.id: row for row in rows if row.account == receive.account}


async def _select(
    lane: Lane,
    uow: Uow,
    row: RebalanceRow,
    descriptor: str,
    free: list[CoinRow],
    young: list[CoinRow],
) -> Selection | None:
    """None where `free` ones do not reach, and do together with those that are not final yet."""
    policy = lane.registry.policy.fees[lane.network]
    quote = await funds.current_quote(lane, uow)
    size = registry.cold_size(lane.spec, descriptor)
    change_key = free[0].key if free else row.address_key

    def size_of(*, inputs: int, has_change: bool) -> int:
        outputs = [row.address_key, change_key] if has_change else [row.address_key]
        return size(inputs, outputs)

    terms = Terms(
        payments_minor=row.amount_minor,
        rate_sat_per_kvb=fee_policy.utxo_rate(quote, target_blocks=TARGET_BLOCKS, policy=policy),
        change_min_minor=lane.registry.assets[row.asset].dust_minor + 1,
        must_keep_change=False,
    )
    final, later = ([item.coin() for item in items] for items in (free, young))
    found = select(final, terms, size_of=size_of)
    if found is None and select([*final, *later], terms, size_of=size_of) is not None:
        return None
    if found is None:
        raise RefillNotPossible("cold_wallet_short")
    if not fee_policy.fits(found.fee_minor, policy=policy):
        raise RefillNotPossible(funds.FEE_ABOVE_MAXIMUM)
    if found.fee_minor > await funds.room_beside(lane, uow, family_id=None):
        raise RefillNotPossible(funds.FEE_CAPITAL)
    return found


def _cold_coin(coin: Coin, address: AddressRow) -> ColdCoin:
    place = _place(address)
    return ColdCoin(coin=coin, branch=place.branch, index=place.index)


def _place(address: AddressRow) -> ColdPlace:
    """Where in the wallet an address is: its path ends so."""
    _, branch, index = address.path.split("/")
    return ColdPlace(branch=int(branch), index=int(index))
