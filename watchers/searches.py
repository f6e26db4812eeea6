"""Differences that the reconciliation finds on account chains: booked in suspense, told, searched.

A balance above what everything explains is never a deposit: Dr custody / Cr suspense, as an inflow
of the block where it showed, and a search (D45, D47). A balance below it is a shortfall: an alarm,
and payouts of the asset pause (D56). Nothing here decides whose money it is: people do.
"""

from datetime import datetime

from config import alarm_store
from config.assets import AssetSpec
from config.chains import Family
from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import (
    account_balances,
    balance_scan,
    inflows,
    reconcile_chain,
    switches,
    token_checks,
    token_store,
)
from watchers.addresses import AddressRole
from watchers.chain import Chain
from watchers.errors import NodeError
from watchers.network import Network
from watchers.reconcile_chain import Holdings
from watchers.token_checks import BOOKED_MAX_MINOR

log = get_logger("watchers.searches")

RECONCILE_SECONDS = 3600.0  # one cycle: an unexplained inflow is in suspense after this time
FIRST_TRY_SECONDS = 30.0  # until the first block is followed and a node has answered
UNEXPLAINED, SHORTFALL = "unexplained", "shortfall"
ACTOR = "watchers.searches"


async def book(database: Database, network: Network, held: Holdings, *, at: datetime) -> int:
    """Book what a comparison could not explain; returns how many searches it opened.

    Nothing when the follower has moved on meanwhile: the next cycle sees it again.
    """
    if network.family is not Family.EVM:
        return 0
    if held.finds:  # first: what is booked of them is compared again in the next cycle
        async with database.unit_of_work() as uow:
            await balance_scan.keep(uow, network.name, held.finds, at=at)
    if held.drifts:
        async with database.unit_of_work() as uow:
            await _correct(uow, network, held)
    if not held.breaks:
        return 0
    async with database.unit_of_work() as uow:
        if not await token_store.holds_cursor(
            uow, network=network.name, block_hash=held.block_hash
        ):
            return 0
        opened = 0
        for code, difference in held.breaks.items():
            asset = _asset_of(network, code)
            if asset is None:
                continue
            if difference > 0:
                difference -= await _awaited(uow, network, held, code, difference, at=at)
            if difference > 0:
                opened += await _unexplained(uow, network, held, code, asset, difference, at=at)
            elif difference < 0:
                opened += await _shortfall(uow, network, held, code, asset, difference, at=at)
    return opened


async def _correct(uow: Uow, network: Network, held: Holdings) -> None:
    """Lanes may pay what they hold: no book changes by it, which the breaks are for."""
    if not await token_store.holds_cursor(uow, network=network.name, block_hash=held.block_hash):
        return
    for drift in held.drifts:
        is_done = await account_balances.correct(
            uow,
            network=network.name,
            place=drift.place,
            amount_minor=drift.amount_minor,
            chain_minor=drift.chain_minor,
        )
        log.warning(
            "reconciliation.lane_drift",
            network=network.name,
            key=drift.place[0],
            asset=drift.place[1],
            minor=str(drift.chain_minor - drift.amount_minor),
            is_corrected=is_done,
        )


async def _awaited(
    uow: Uow, network: Network, held: Holdings, code: str, difference: int, *, at: datetime
) -> int:
    """How much of a difference belongs to traced deposits in no block: never booked, told."""
    waiting = min(difference, held.awaited.get(code, 0))
    if waiting:
        detail = f"{code} at {held.height}: {waiting} minor units may be deposits no node traces"
        await _alarm(uow, network, "deposit_untraced", detail, at=at)
    return waiting


async def _unexplained(
    uow: Uow,
    network: Network,
    held: Holdings,
    code: str,
    asset: AssetSpec,
    difference: int,
    *,
    at: datetime,
) -> bool:
    """Suspense, once per block and account: the same block compared twice books once."""
    is_new = await _open(uow, network, held, UNEXPLAINED, code, asset, difference, at=at)
    if is_new and difference <= BOOKED_MAX_MINOR:
        role, brand = _wallet_of(code)
        full_depth = network.depths(asset, difference, is_coinbase=False).full_depth
        await inflows.connect_difference(
            uow,
            network=network.name,
            code=code,
            role=role,
            brand=brand,
            asset=asset.id,
            amount_minor=difference,
            block_hash=held.block_hash,
            height=held.height,
            book_at_height=held.height + full_depth - 1,
            ids=network.ids,
            at=at,
        )
    await _alarm(uow, network, "unexplained_inflow", f"{code} at {held.height}", at=at)
    return is_new


async def _shortfall(
    uow: Uow,
    network: Network,
    held: Holdings,
    code: str,
    asset: AssetSpec,
    difference: int,
    *,
    at: datetime,
) -> bool:
    """One search while it is open, however often it is seen again."""
    is_known = await token_store.has_open(
        uow, network=network.name, kind=SHORTFALL, asset=asset.id, subject=code
    )
    if not is_known:
        await _open(uow, network, held, SHORTFALL, code, asset, difference, at=at)
    await _alarm(uow, network, SHORTFALL, f"{code} holds less than the books", at=at)
    await switches.open_breaker(
        uow,
        scope=f"asset:{asset.id}",
        action=switches.Action.BUILD,
        reason=f"{code} holds less than the books say",
        actor=ACTOR,
        ids=network.ids,
        at=at,
    )
    return not is_known


async def _open(
    uow: Uow,
    network: Network,
    held: Holdings,
    kind: str,
    code: str,
    asset: AssetSpec,
    difference: int,
    *,
    at: datetime,
) -> bool:
    log.error("reconciliation.difference", network=network.name, kind=kind, account=code)
    return await token_store.open_search(
        uow,
        {
            "id": network.ids.new_id(),
            "network": network.name,
            "kind": kind,
            "asset": asset.id,
            "subject": code,
            "brand": None,
            "player_id": None,
            "block_hash": held.block_hash,
            "height": held.height,
            "claimed": 0,
            "moved": difference,
            "transfers": [],
            "at": at,
        },
    )


async def _alarm(uow: Uow, network: Network, kind: str, detail: str, *, at: datetime) -> None:
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=kind,
        network=network.name,
        detail=detail,
        at=at,
    )


def _asset_of(network: Network, code: str) -> AssetSpec | None:
    """The asset of `custody:<wallet>:<network>:<SYMBOL>`."""
    return network.asset(code.split(":", 2)[2])


def _wallet_of(code: str) -> tuple[AddressRole, str | None]:
    """Role and brand of `custody:<network>/<role>[/<brand>]:<asset>`."""
    parts = code.split(":")[1].split("/")
    return AddressRole(parts[1]), parts[2] if len(parts) > 2 else None


class SearchLoop:
    """Verifies token facts and compares books with the chain, once per cycle."""

    def __init__(
        self,
        *,
        chain: Chain,
        network: Network,
        database: Database,
        clock: Clock,
        scan_keys: int = balance_scan.SCAN_KEYS,
    ) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock
        self._scan_keys = scan_keys

    async def run(self) -> None:
        """Look until cancelled; on UTXO networks there is nothing to look at."""
        if self._network.family is not Family.EVM:
            return
        while True:
            is_done = await self.look()
            await self._clock.sleep(RECONCILE_SECONDS if is_done else FIRST_TRY_SECONDS)

    async def look(self) -> bool:
        """One cycle; False when the nodes gave no answer."""
        try:
            await token_checks.verify_decimals(
                self._database, self._chain.reader, self._network, clock=self._clock
            )
            held = await reconcile_chain.holdings_at(
                self._database,
                self._chain,
                self._network,
                clock=self._clock,
                scan_keys=self._scan_keys,
            )
        except NodeError as error:
            log.warning("search.no_answer", network=self._network.name, error=str(error))
            return False
        await book(self._database, self._network, held, at=self._clock.now())
        if held.scanned is not None:  # last: a page whose cycle died is looked at again
            before, after = held.scanned
            async with self._database.unit_of_work() as uow:
                await balance_scan.move(
                    uow, self._network.name, before=before, after=after, at=self._clock.now()
                )
        return True
