"""What tests of moves to cold do to a payout house: a pinned cold wallet, bands, people's words."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from config.ids import public_id
from config.rebalance_policy import RebalancePolicy
from config.settings import ColdSettings
from config.treasury_policy import Band, WalletRole
from gateway.payouts import rebalances, rebalances_store
from gateway.payouts.approvals import Staff
from gateway.payouts.rebalances import Direction, Wish
from gateway.payouts.rebalances_store import RebalanceRow
from ledger import accounts, balances
from ledger.money import format_amount
from tests.support.colds import COLD_BTC_ADDRESS, COLD_ETH_ADDRESS, single_descriptor
from tests.support.comparing import network_of
from tests.support.payouts import Payouts
from tests.support.people import PEOPLE, employ
from tests.support.sign_requests import approval
from tests.support.vault import open_kit, staff_key
from watchers import addresses, cold

DAY: Final = 86_400
COLD: Final = {
    "btc": ColdSettings(address=COLD_BTC_ADDRESS, descriptor=single_descriptor(), addresses=3),
    "ltc": ColdSettings(
        address="rltc1qyem3d2af607nrt5n9mysrgy4ys4ly59rupwq4l",
        descriptor=single_descriptor(),
        addresses=3,
    ),
    "eth": ColdSettings(address=COLD_ETH_ADDRESS),
}
WIDE: Final = "".join(f'cold_{name}_minor = "{10**24}"\n' for name in ("tx_max", "day_max"))
POLICY: Final = RebalancePolicy(
    two_people_above_minor=0, is_automatic=False, pause_seconds=3_600, valid_seconds=DAY
)


async def with_cold(
    house: Payouts,
    *,
    band: tuple[str, str, str] | None = None,
    asset: str = "",
    policy: RebalancePolicy = POLICY,
    caps: str = WIDE,
    is_pinned: bool = True,
) -> Payouts:
    """The house with a cold wallet that is watched, pinned since a day, and within wide caps; with
    `band` (min, target, max) of `asset`, or of the coin."""
    asset = asset or house.native
    wallet = COLD[house.network]
    settings = house.registry.settings.model_copy(update={"cold": {house.network: wallet}})
    rules = replace(
        house.registry.policy,
        rebalances=dict.fromkeys(house.registry.assets, policy),
        treasury=replace(
            house.registry.policy.treasury,
            bands={} if band is None else {(WalletRole.HOT, asset): _band(house, asset, band)},
        ),
    )
    house.registry = replace(house.registry, settings=settings, policy=rules)
    await cold.register(house.database, network_of(house), wallet, clock=house.clock)
    await employ(house)
    _open_to_cold(house, caps=caps, is_pinned=is_pinned)
    return house


def _band(house: Payouts, asset: str, band: tuple[str, str, str]) -> Band:
    low, target, high = (house.minor(asset, text) for text in band)
    return Band(min_minor=low, target_minor=target, max_minor=high)


def _open_to_cold(house: Payouts, *, caps: str, is_pinned: bool) -> None:
    kit = house.signer.kit
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    for symbol in ("BTC", "LTC", "ETH", "USDT"):
        text = text.replace(f"assets.{symbol}]\n", f"assets.{symbol}]\n{caps}")
    path.write_text(text, "utf-8")
    house.signer.kit = open_kit(kit.folder, kit.clock)
    if is_pinned:
        kit.clock.now -= DAY
        pin(house)
        kit.clock.now += DAY


def believe(house: Payouts, authority: str) -> None:
    """The signer takes what people sign for this API, too."""
    kit = house.signer.kit
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8").replace("authorities = [", f'authorities = ["{authority}", ')
    path.write_text(text, "utf-8")
    house.signer.kit = open_kit(kit.folder, kit.clock)


def pin(house: Payouts) -> None:
    """Two people pin the cold address now."""
    fields = {"network": house.network, "address": COLD[house.network].address}
    house.signer.kit.statement("pin", fields)


async def ask(house: Payouts, amount: str, *, asset: str = "") -> RebalanceRow:
    """A person asks for a move to cold."""
    asset = asset or house.native
    async with house.database.unit_of_work() as uow:
        to = await addresses.by_role(
            uow, network=house.network, roles=(addresses.AddressRole.COLD,)
        )
        place = next(row for row in to if row.address == COLD[house.network].address)
        row = await rebalances.propose(
            uow,
            Wish(
                network=house.network,
                asset=asset,
                direction=Direction.HOT_TO_COLD,
                amount_minor=house.minor(asset, amount),
                address=place.address,
                address_key=place.key,
                reason="a test",
                forecast=None,
                requested_by="alice",
            ),
            policy=house.registry.policy.rebalances[asset],
            ids=house.ids,
            at=house.clock.now(),
        )
    assert row is not None
    return row


async def agree(
    house: Payouts, row: RebalanceRow, *people: str, says: dict[str, str] | None = None
) -> RebalanceRow:
    """What the API does when these people sign; `says`: other words in the body than were read."""
    decimals = house.registry.assets[row.asset].decimals
    name = public_id("rebalance", row.id, livemode=False)
    body: dict[str, Any] = {
        "rebalance_id": name,
        "direction": row.direction,
        "network": row.network,
        "asset": row.asset,
        "address": row.address,
        "amount": format_amount(row.amount_minor, decimals=decimals),
        "valid_until": row.valid_until.isoformat().replace("+00:00", "Z"),
        **(says or {}),
    }
    for person in people or PEOPLE:
        claim = approval(
            person,
            body,
            action="approve",
            key=staff_key(person),
            withdrawal=name,
            target="/v1/rebalances/{}/approve",
            created=int(house.clock.now().timestamp()),
        )
        assert json.loads(claim.body) == body
        async with house.database.unit_of_work() as uow:
            locked = await rebalances_store.get(uow, row.id, lock=True)
            assert locked is not None
            row = await rebalances.approve(
                uow,
                locked,
                rebalances.words_of(locked),
                Staff(key_id=f"{person}-key", person=person, signed=claim),
                policy=house.registry.policy.rebalances[row.asset],
                ids=house.ids,
                at=house.clock.now(),
            )
    return row


async def now(house: Payouts, row: RebalanceRow) -> RebalanceRow:
    """The row as it is now."""
    async with house.database.unit_of_work() as uow:
        found = await rebalances_store.get(uow, row.id)
    assert found is not None
    return found


async def every(house: Payouts) -> Sequence[RebalanceRow]:
    """All of them, oldest first."""
    async with house.database.unit_of_work() as uow:
        return list(reversed(await rebalances_store.find(uow, limit=100)))


async def custody(house: Payouts, role: str, asset: str = "") -> int:
    """What the books hold in a wallet, in minor units."""
    asset = asset or house.native
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, accounts.custody(house.network, role, asset))


async def told(house: Payouts, row: RebalanceRow) -> list[str]:
    """The types of its events, in order."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT type FROM ledger.events WHERE object_id = :id ORDER BY object_version",
            {"id": row.id},
        )
        return list(result.scalars())
