"""Every wallet of the operator, by the books, by the chain, and by what is on its way.

Owns the one reading that the API, the bands and the advice share, taken in one snapshot so that no
figure is of another moment than the next. Amounts are minor units. It asks no node, books nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from config.database import Uow
from config.registry import Registry
from config.treasury_policy import Band, WalletRole
from ledger import balances, holds
from ledger.accounts import AccountKind, custody
from watchers import positions
from watchers.positions import OnChain


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletPosition:
    """One wallet and asset.

    `ledger_minor` holds the value of own transactions until they are settled: `outgoing_minor` of
    it is leaving, `incoming_minor` is to come from another wallet. `reserved_minor` is what
    accepted withdrawals wait for; hot wallets only.
    """

    wallet: str
    role: WalletRole
    network: str
    asset: str
    brand: str | None
    ledger_minor: int
    reserved_minor: int
    outgoing_minor: int
    incoming_minor: int
    chain: OnChain | None

    @property
    def expected_minor(self) -> int:
        """What it holds once every own transaction is settled."""
        return self.ledger_minor - self.outgoing_minor + self.incoming_minor

    @property
    def free_minor(self) -> int:
        """What nobody waits for: bands are judged by it. Below zero when withdrawals wait for more
        than there is."""
        return self.expected_minor - self.reserved_minor


async def read(
    uow: Uow, registry: Registry, *, network: str | None = None, has_chain: bool = False
) -> list[WalletPosition]:
    """Every wallet of one network or all enabled ones, by name and asset; `has_chain`: with what
    the chain holds, which bands do not need. The unit of work is a snapshot of all brands."""
    specs = {name: spec for name, spec in registry.chains.items() if network in (None, name)}
    # Reserved, signed, settled: outside a snapshot a payout that moves on counts twice, never not.
    reserved = await holds.reserved(uow)
    transit = {name: await positions.in_transit(uow, spec) for name, spec in specs.items()}
    rows = {row.code: row for row in await balances.balances(uow, kind=AccountKind.CUSTODY)}
    chain: dict[str, OnChain] = {}
    for spec in specs.values() if has_chain else ():
        chain |= await positions.on_chain(uow, spec)
    ways = [side for item in transit.values() for side in (item.outgoing, item.incoming)]
    codes = {*rows, *chain, *_expected_codes(registry)}.union(*ways)
    found = []
    for code in codes:
        wallet, place, symbol = code.removeprefix("custody:").rsplit(":", 2)
        asset = f"{place}:{symbol}"
        if place not in specs or asset not in registry.assets:
            continue  # of a network that is switched off, or not asked for
        _, role, *brand = wallet.split("/")
        found.append(
            WalletPosition(
                wallet=wallet,
                role=WalletRole(role),
                network=place,
                asset=asset,
                brand=brand[0] if brand else None,
                ledger_minor=rows[code].balance_minor if code in rows else 0,
                reserved_minor=reserved.get(asset, 0) if role == WalletRole.HOT else 0,
                outgoing_minor=transit[place].outgoing.get(code, 0),
                incoming_minor=transit[place].incoming.get(code, 0),
                chain=chain.get(code),
            )
        )
    return sorted(found, key=lambda item: (item.wallet, item.asset))


@dataclass(frozen=True, slots=True, kw_only=True)
class BandPosition:
    """All wallets of one role that share a band."""

    network: str
    role: WalletRole
    asset: str
    band: Band
    free_minor: int
    incoming_minor: int

    @property
    def name(self) -> str:
        """The wallet's name; deposit wallets of all brands together."""
        return f"{self.network}/{self.role}"

    def without_incoming(self) -> "BandPosition":
        """The same, as if nothing were to come from another wallet."""
        return replace(self, free_minor=self.free_minor - self.incoming_minor, incoming_minor=0)


def by_band(
    found: Iterable[WalletPosition], registry: Registry, *, network: str | None = None
) -> list[BandPosition]:
    """What the wallets of each band hold together, by role and asset. Pure."""
    held: dict[tuple[WalletRole, str], list[WalletPosition]] = {}
    for item in found:
        held.setdefault((item.role, item.asset), []).append(item)
    return [
        BandPosition(
            network=registry.assets[asset].network,
            role=role,
            asset=asset,
            band=band,
            free_minor=sum(item.free_minor for item in held.get((role, asset), ())),
            incoming_minor=sum(item.incoming_minor for item in held.get((role, asset), ())),
        )
        for (role, asset), band in sorted(registry.policy.treasury.bands.items())
        if network in (None, registry.assets[asset].network)
    ]


def _expected_codes(registry: Registry) -> set[str]:
    """Wallets that are shown before anything came: hot ones, and what has a band."""
    hot = {custody(asset.network, "hot", asset.id).code for asset in registry.assets.values()}
    banded = {
        custody(registry.assets[asset].network, role, asset).code
        for role, asset in registry.policy.treasury.bands
        if role is not WalletRole.DEPOSIT
    }
    return hot | banded
