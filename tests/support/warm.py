"""What tests of the warm wallet do to a payout house: a band, an address, caps, people's words."""

from dataclasses import replace
from typing import Final

from config.sections import BandSettings, WalletSettings
from config.treasury_policy import Band, WalletRole
from gateway.payouts import rebalances
from gateway.payouts.pool_verifier import PoolVerifier
from gateway.payouts.rebalances import TARGETS, Direction, Wish
from gateway.payouts.rebalances_store import RebalanceRow
from tests.support.comparing import network_of
from tests.support.payouts import Payouts
from tests.support.people import employ
from tests.support.rebalancing import POLICY
from tests.support.vault import open_kit
from watchers import addresses, pool
from watchers.addresses import AddressRole, AddressRow

WIDE: Final = "".join(f'warm_{name}_minor = "{10**24}"\n' for name in ("tx_max", "day_max"))
ACCOUNTS: Final = (0, 1, 2)  # the operator's, and one per brand
BAND: Final = BandSettings(min="0.1", target="1", max="2")


async def with_warm(house: Payouts, *, caps: str = WIDE) -> Payouts:
    """The house with a warm wallet of each asset, whose address the watcher made and the signer
    verified, and people who sign."""
    wallets = {asset: WalletSettings(warm=BAND) for asset in house.registry.assets}
    bands = {
        (WalletRole.WARM, asset): Band(
            min_minor=house.minor(asset, BAND.min),
            target_minor=house.minor(asset, BAND.target),
            max_minor=house.minor(asset, BAND.max),
        )
        for asset in house.registry.assets
    }
    policy = house.registry.policy
    house.registry = replace(
        house.registry,
        settings=house.registry.settings.model_copy(update={"wallets": wallets}),
        policy=replace(
            policy,
            rebalances=dict.fromkeys(house.registry.assets, POLICY),
            treasury=replace(policy.treasury, bands={**policy.treasury.bands, **bands}),
        ),
    )
    await _derive(house)
    _open(house, caps=caps)
    await employ(house)
    return house


async def _derive(house: Payouts) -> None:
    """What watcher and payouts do at their start."""
    network, kit = network_of(house), house.signer.kit
    of_signer = kit.settings.networks[house.network]
    xpubs = {number: kit.keyring.account_xpub(of_signer, number) for number in ACCOUNTS}
    branches = pool.branches(house.registry.settings, network, xpubs)
    warm = tuple(item for item in branches if item.role is AddressRole.WARM)
    made = await pool.top_up(house.database, house.chain.codec, network, warm, clock=house.clock)
    verifier = PoolVerifier(
        house.network, database=house.role, signer=house.signer, clock=house.clock, ids=house.ids
    )
    verified = await verifier.verify_batch()
    if (made, verified) != (1, 1):
        raise RuntimeError(f"{made} warm addresses, {verified} of them the signer's")


def _open(house: Payouts, *, caps: str) -> None:
    kit = house.signer.kit
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    for symbol in ("BTC", "LTC", "ETH", "USDT"):
        text = text.replace(f"assets.{symbol}]\n", f"assets.{symbol}]\n{caps}")
    path.write_text(text, "utf-8")
    house.signer.kit = open_kit(kit.folder, kit.clock)


async def warm_address(house: Payouts) -> AddressRow:
    """The warm wallet's one."""
    async with house.database.unit_of_work() as uow:
        return await addresses.own_address(uow, network=house.network, role="warm")


async def ask(
    house: Payouts, direction: Direction, amount: str, *, asset: str = ""
) -> RebalanceRow:
    """A person asks for a move between hot and warm."""
    asset = asset or house.native
    async with house.database.unit_of_work() as uow:
        to = await addresses.own_address(
            uow,
            network=house.network,
            role="warm" if TARGETS[direction] is AddressRole.WARM else "hot",
        )
        row = await rebalances.propose(
            uow,
            Wish(
                network=house.network,
                asset=asset,
                direction=direction,
                amount_minor=house.minor(asset, amount),
                address=to.address,
                address_key=to.key,
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
