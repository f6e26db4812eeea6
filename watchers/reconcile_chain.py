"""Books against chain at one block (HOUSE 7): what the chain holds, and what explains a difference.

chain(H) = custody entries whose block is an ancestor of H + deposits and inflows mined up to H not
yet posted - own transactions mined up to H not yet settled; all else is a break. Owns no state and
books nothing: a difference is news for people, never a deposit.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from config.chains import Family
from config.clock import Clock
from config.database import Database, Uow
from ledger import liabilities, reconcile
from ledger.liabilities import Liability
from watchers import (
    account_balances,
    addresses,
    balance_scan,
    coins,
    deposit_store,
    inflows,
    outgoing,
    store,
    token_store,
)
from watchers import outgoing_store as own_store
from watchers import reconciliation_store as runs_store
from watchers.addresses import AddressRole, AddressRow
from watchers.balance_scan import SCAN_KEYS, Scan
from watchers.chain import Chain, ChainReader, Outpoint
from watchers.coins import MinedCoin
from watchers.errors import NodeUnavailable, TipMoved
from watchers.inflows import custody_account
from watchers.network import Network
from watchers.outgoing import OutgoingRow

READ_TRIES_MAX = 8  # a tip that moves, or a commit between two reads: look again
RETRY_SECONDS = 0.5  # the follower reaches a new tip within its poll interval
KEYS_PER_CALL = 200  # account chains: addresses per holdings call
_SPENDS = {outgoing.OUTSIDE_PURPOSE: AddressRole.COLD, own_store.FROM_WARM: AddressRole.WARM}
"""Whose coins a purpose spends, where they are not hot ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One account of the operator: what the evidence adds up to, and what the chain says."""

    place: account_balances.Place
    amount_minor: int
    chain_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one address (UTXO: one coin of it) holds on the chain, minor units."""

    address: AddressRow
    asset: str
    amount_minor: int
    outpoint: Outpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Amounts in minor units by custody account code, at one block.

    `breaks` holds what is left over: chain - (books + unposted - unsettled), where not zero.
    """

    network: str
    height: int
    block_hash: str
    read_at: datetime
    """When the books were read, by the database's clock."""
    chain: Mapping[str, int]
    books: Mapping[str, int]
    unposted: Mapping[str, int]
    unsettled: Mapping[str, int]
    awaited: Mapping[str, int]
    """What traced deposits in no block claim: a break up to this is theirs until they are told."""
    scanned: tuple[int, int] | None = None
    """Account chains: where the scan of never-used addresses stood, and would stand after this."""
    finds: tuple[UUID, ...] = ()
    """Addresses that never received anything we know of, and hold something."""
    drifts: tuple[Drift, ...] = ()
    """Accounts of the operator whose balance is not what the blocks' evidence adds up to."""
    held: tuple[Held, ...] = ()
    """Where it stands, address by address; asked for by a proof of reserves only."""
    owed: tuple[Liability, ...] = ()
    """What the books owed to others at the moment of `books`; likewise."""
    transactions: Mapping[str, bytes] = field(default_factory=dict)
    """UTXO chains: the txs that made the coins of `held`, by txid; likewise."""
    missing: tuple[MinedCoin, ...] = ()
    """UTXO chains: coins that no block spent for us and that the node does not have."""
    own: tuple[AddressRow, ...] = ()
    """Account chains: the addresses that were asked for, with what each holds in `balances`."""
    balances: Mapping[account_balances.Place, int] = field(default_factory=dict)

    @property
    def breaks(self) -> dict[str, int]:
        """Account code -> chain less what the books explain, only where they differ."""
        codes = {*self.chain, *self.books, *self.unposted, *self.unsettled}
        rest = {
            code: self.chain.get(code, 0)
            - self.books.get(code, 0)
            - self.unposted.get(code, 0)
            + self.unsettled.get(code, 0)
            for code in codes
        }
        return {code: amount for code, amount in sorted(rest.items()) if amount != 0}


@dataclass(kw_only=True)
class _Found:
    """What the nodes said."""

    total: Counter[str] = field(default_factory=Counter)
    finds: set[UUID] = field(default_factory=set)
    drifts: list[Drift] = field(default_factory=list)
    missing: tuple[MinedCoin, ...] = ()
    held: list[Held] = field(default_factory=list)
    balances: dict[account_balances.Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Books:
    height: int
    block_hash: str
    read_at: datetime
    books: Counter[str]
    unposted: Counter[str]
    unsettled: Counter[str]
    awaited: Counter[str]
    scan: Scan | None
    open_coins: tuple[MinedCoin, ...]
    held: dict[account_balances.Place, int]
    owners: Mapping[UUID, AddressRow]
    transactions: Mapping[str, bytes]
    owed: tuple[Liability, ...]


async def holdings_at(
    database: Database,
    chain: Chain,
    network: Network,
    *,
    clock: Clock | None = None,
    scan_keys: int = SCAN_KEYS,
    is_proof: bool = False,
) -> Holdings:
    """Compare at the follower's block; with a clock, look again after a pause.

    `is_proof` also tells where everything stands, and what was owed at the same moment.

    A settlement that commits between two reads looks like a break for a moment: only one that
    stays is reported. Raises NodeUnavailable when the tip never stands still.
    """
    found: Holdings | None = None
    for attempt in range(READ_TRIES_MAX):
        if attempt and clock is not None:
            await clock.sleep(RETRY_SECONDS)
        try:
            found = await _compare(database, chain, network, scan_keys=scan_keys, is_proof=is_proof)
        except TipMoved:
            continue
        if not found.breaks:
            return found
    if found is None:
        raise NodeUnavailable(f"{network.name}: the tip moved during every read")
    return found


async def _compare(
    database: Database, chain: Chain, network: Network, *, scan_keys: int, is_proof: bool
) -> Holdings:
    async with database.snapshot() as uow:
        found = await _read_books(uow, network, scan_keys=scan_keys, is_proof=is_proof)
    seen = await _read_chain(chain.reader, network, found, is_proof=is_proof)
    return Holdings(
        network=network.name,
        height=found.height,
        block_hash=found.block_hash,
        read_at=found.read_at,
        chain=seen.total,
        books=found.books,
        unposted=found.unposted,
        unsettled=found.unsettled,
        awaited=found.awaited,
        scanned=None if found.scan is None else (found.scan.before, found.scan.after),
        finds=tuple(sorted(seen.finds)),
        drifts=tuple(seen.drifts),
        held=tuple(seen.held),
        owed=found.owed,
        transactions=found.transactions,
        missing=seen.missing,
        own=() if found.scan is None else found.scan.asked,
        balances=seen.balances,
    )


async def _read_books(uow: Uow, network: Network, *, scan_keys: int, is_proof: bool) -> _Books:
    """One consistent view, in a snapshot: the follower goes on meanwhile."""
    cursor = await store.cursor(uow, network.name)
    if cursor is None or cursor["hash"] is None:
        raise NodeUnavailable(f"{network.name}: no block was followed yet")
    height = int(cursor["height"])
    wallets = await reconcile.book_at(uow, network=network.name, height=height)
    is_utxo = network.family is Family.BITCOIN  # asked about coins, never about addresses
    scan = None if is_utxo else await balance_scan.read(uow, network.name, keys_max=scan_keys)
    open_coins = await coins.open_mined(uow, network=network.name) if is_utxo else []
    owner_ids = sorted({coin.address_id for coin in open_coins}) if is_proof else []
    txids = {coin.outpoint.txid for coin in open_coins} if is_proof else set[str]()
    return _Books(
        height=height,
        block_hash=cursor["hash"],
        read_at=await runs_store.moment(uow),
        books=Counter(
            {f"custody:{item.wallet}:{item.asset}": item.balance_minor for item in wallets}
        ),
        unposted=await _unposted(uow, network, height),
        unsettled=await _unsettled(uow, network, height, () if scan is None else scan.asked),
        awaited=await _awaited(uow, network),
        scan=scan,
        open_coins=tuple(open_coins),
        held={} if is_utxo else await account_balances.held(uow, network=network.name),
        owners=await addresses.by_ids(uow, owner_ids),
        transactions=await coins.transactions(uow, network=network.name, txids=txids),
        owed=tuple(await liabilities.owed(uow, network=network.name) if is_proof else ()),
    )


async def _unposted(uow: Uow, network: Network, height: int) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in await deposit_store.unposted(uow, network=network.name, height=height):
        if network.asset(row["asset"]) is None:
            continue  # a token that no list has: no book holds it, no balance of it is read
        code = _code(network, AddressRole.DEPOSIT, row["brand"], row["asset"])
        total[code] += int(row["amount"])
    for inflow in await inflows.unposted(uow, network=network.name, height=height):
        total[_code(network, inflow.role, inflow.brand, inflow.asset)] += inflow.amount_minor
    return total


async def _awaited(uow: Uow, network: Network) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in await token_store.awaited(uow, network=network.name):
        role = AddressRole(row["role"])
        total[_code(network, role, row["brand"], row["asset"])] += int(row["amount"])
    return total


async def _unsettled(
    uow: Uow, network: Network, height: int, own: tuple[AddressRow, ...]
) -> Counter[str]:
    total: Counter[str] = Counter()
    found = await own_store.unsettled(uow, network=network.name, height=height)
    rows = await outgoing.with_inputs(uow, found)
    by_key = {address.key: address for address in own}
    if network.family is Family.BITCOIN:
        keys = sorted({moved.key for row in rows for moved in row.moved})
        by_key = await addresses.by_keys(uow, network=network.name, keys=keys)
    for row in rows:
        _count_unsettled(network, row, by_key, total)
    return total


def _count_unsettled(
    network: Network,
    row: OutgoingRow,
    by_key: Mapping[str, AddressRow],
    total: Counter[str],
) -> None:
    sender = by_key.get(row.sender_key or "")
    role = _SPENDS.get(row.purpose, AddressRole.HOT) if sender is None else sender.role
    brand = None if sender is None else sender.brand
    is_of_sweeps = row.purpose in own_store.SWEEP_PURPOSES
    for moved in row.moved:
        # A collect takes from deposit addresses, a Safe gives of its own.
        source = by_key.get(moved.from_key or row.payer_key or "")
        of = (role, brand) if source is None else (source.role, source.brand)
        total[_code(network, *of, moved.asset)] += moved.amount_minor
        receiver = by_key.get(moved.key)
        # What a payout brings to a player is a deposit, which is counted as such; gas is not.
        if receiver is not None and (receiver.player_id is None or is_of_sweeps):
            code = _code(network, receiver.role, receiver.brand, moved.asset)
            total[code] -= moved.amount_minor
    total[_code(network, role, brand, network.spec.native_asset)] += row.fee_minor or 0


async def _read_chain(
    reader: ChainReader, network: Network, found: _Books, *, is_proof: bool
) -> _Found:
    """What the chain holds by account, what the scan found, and where the evidence drifted; for a
    proof also what stands where."""
    seen = _Found()
    if found.scan is None:
        open_coins = await reader.open_coins(
            [coin.outpoint for coin in found.open_coins], block_hash=found.block_hash
        )
        roles = {coin.outpoint: coin.role for coin in found.open_coins}
        for outpoint, amount in open_coins.items():
            code = _code(network, roles[outpoint], None, network.spec.native_asset)
            seen.total[code] += amount
        seen.missing = tuple(coin for coin in found.open_coins if coin.outpoint not in open_coins)
        if is_proof:
            seen.held += _coins_held(found, open_coins)
        return seen
    own = found.scan.asked
    for asset in (item for item in network.assets.values() if item.network == network.name):
        for start in range(0, len(own), KEYS_PER_CALL):
            part = own[start : start + KEYS_PER_CALL]
            balances = await reader.holdings(
                [address.key for address in part], asset.id, block_hash=found.block_hash
            )
            for address in part:
                held_minor, place = balances[address.key], (address.key, asset.id)
                seen.total[_code(network, address.role, address.brand, asset.id)] += held_minor
                seen.balances[place] = held_minor
                if is_proof and held_minor:
                    seen.held.append(Held(address=address, asset=asset.id, amount_minor=held_minor))
                if address.role in account_balances.ROLES:
                    seen.drifts += _drift(place, held_minor, found.held)
            seen.finds.update(found.scan.finds(balances))
    return seen


def _coins_held(found: _Books, open_coins: Mapping[Outpoint, int]) -> list[Held]:
    return [
        Held(
            address=found.owners[coin.address_id],
            asset=coin.asset,
            amount_minor=open_coins[coin.outpoint],
            outpoint=coin.outpoint,
        )
        for coin in found.open_coins
        if coin.outpoint in open_coins
    ]


def _drift(
    place: account_balances.Place, chain_minor: int, held: Mapping[account_balances.Place, int]
) -> list[Drift]:
    amount = held.get(place, 0)
    if amount == chain_minor:
        return []
    return [Drift(place=place, amount_minor=amount, chain_minor=chain_minor)]


def _code(network: Network, role: AddressRole, brand: str | None, asset: str) -> str:
    return custody_account(
        family=network.family, network=network.name, role=role, brand=brand, asset=asset
    ).code
