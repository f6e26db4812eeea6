"""What of a block is recorded already: only what is missing goes on when it is looked at again.

Reads rows and writes none. A deposit or inflow of this very block stays as it is; one that this
block excluded is not told again; a value that was booked without an explanation (D47) is not
booked a second time under its own name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import RowMapping

from config.chains import Family
from config.database import Uow
from config.logs import get_logger
from watchers import addresses
from watchers import rescan_store as store
from watchers.address_filter import AddressFilter
from watchers.addresses import AddressRow
from watchers.chain import Block, Transfer
from watchers.code_checks import NONE_CODED
from watchers.errors import WatcherError
from watchers.inflows import custody_account
from watchers.network import Network
from watchers.token_checks import Finding, Look

log = get_logger("watchers.recorded")

_Place = tuple[str, str]


class Contradiction(WatcherError):
    """A block of our chain holds a tx that is recorded in another block of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Looks with what is not recorded, and the deposits in no block that they may tell of."""

    looks: tuple[Look, ...]
    open_ids: frozenset[UUID]
    held: tuple[Transfer, ...]

    @property
    def withheld(self) -> int:
        """How many transfers may be in the books already."""
        return len(self.held)

    def told(self) -> str:
        """Which they are, in short."""
        names = ", ".join(f"{item.txid} {item.position}" for item in self.held[:3])
        return f"{self.withheld} transfers may be booked as unexplained inflows already: {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows of the blocks in question."""

    deposits: Mapping[str, Sequence[RowMapping]]  # by txid
    inflows: frozenset[tuple[str, str, str]]  # block hash, txid, position
    searches: frozenset[tuple[str, str, str, str]]
    own: Mapping[str, AddressRow]
    differences: Mapping[str, int]


async def missing(
    uow: Uow, network: Network, known: AddressFilter, looks: Sequence[Look]
) -> Missing:
    """What these blocks of our chain tell that is not recorded. Raises Contradiction."""
    blocks = [item.block for item in looks]
    rows = await _read(uow, network, known, looks)
    await _check_own(uow, network, blocks)
    kept, held, open_ids = [], [], []
    for item in looks:
        block_hash = item.block.ref.hash
        told = [row for txid in item.block.txids for row in rows.deposits.get(txid, ())]
        told = [row for row in told if row["coinbase_hash"] in ("", block_hash)]
        _check_deposits(told, item.block)
        open_ids += [
            row["id"]
            for row in told
            if row["block_hash"] is None and row["conflict_hash"] != block_hash
        ]
        cut, withheld = _cut(network, item, told, rows)
        kept.append(cut)
        held += withheld
    for transfer in held:
        log.warning("rescan.withheld", network=network.name, txid=transfer.txid)
    return Missing(looks=tuple(kept), open_ids=frozenset(open_ids), held=tuple(held))


async def _read(uow: Uow, network: Network, known: AddressFilter, looks: Sequence[Look]) -> _Rows:
    blocks = [item.block for item in looks]
    hashes = [block.ref.hash for block in blocks]
    deposits: dict[str, list[RowMapping]] = {}
    txids = [txid for block in blocks for txid in block.txids]
    for row in await store.deposits_of(uow, network=network.name, txids=txids):
        deposits.setdefault(row["txid"], []).append(row)
    inflows = await store.inflows_of(uow, network=network.name, hashes=hashes)
    searches = await store.searches_of(uow, network=network.name, hashes=hashes)
    own: Mapping[str, AddressRow] = {}
    differences: Mapping[str, int] = {}
    if network.family is Family.EVM:
        await known.extend(uow)
        keys = {item.to_key for block in blocks for item in (*block.transfers, *block.gifts)}
        own = await addresses.by_keys(uow, network=network.name, keys=known.candidates(keys))
        differences = await store.differences(
            uow, network=network.name, from_height=blocks[0].ref.height
        )
    return _Rows(
        deposits=deposits,
        inflows=frozenset((row["block_hash"], row["txid"], row["position"]) for row in inflows),
        searches=frozenset(
            (row["block_hash"], row["kind"], row["asset"], row["subject"]) for row in searches
        ),
        own=own,
        differences=differences,
    )


def _check_deposits(rows: Sequence[RowMapping], block: Block) -> None:
    for row in rows:
        if row["block_hash"] not in (None, block.ref.hash):
            raise Contradiction(
                f"block {block.ref.height} holds tx {row['txid']}, whose deposit is recorded in "
                f"block {row['block_hash']}"
            )


async def _check_own(uow: Uow, network: Network, blocks: Sequence[Block]) -> None:
    place = {txid: block for block in blocks for txid in block.txids}
    for row in await store.outgoing_of(uow, network=network.name, txids=list(place)):
        block = place[row["txid"]]
        if row["block_hash"] != block.ref.hash:
            raise Contradiction(
                f"block {block.ref.height} holds our tx {row['txid']}, which is recorded in "
                f"block {row['block_hash']}"
            )


def _cut(
    network: Network, item: Look, told: Sequence[RowMapping], rows: _Rows
) -> tuple[Look, list[Transfer]]:
    """A look without what is recorded, and what of it may be booked without explanation."""
    block_hash = item.block.ref.hash
    places = {(row["txid"], row["position"]): row for row in told}
    held: list[Transfer] = []
    kept: list[Transfer] = []
    for transfer in item.block.transfers:
        row = places.get((transfer.txid, transfer.position))
        if (block_hash, transfer.txid, transfer.position) in rows.inflows:
            continue
        if row is not None and _is_settled(row, block_hash):
            continue
        if row is None and _may_be_booked(network, transfer, rows):
            held.append(transfer)
            continue
        kept.append(transfer)
    look = replace(
        item,
        block=replace(item.block, transfers=tuple(kept)),
        findings=tuple(
            finding
            for finding in item.findings
            if _is_new(network, finding, item.block, places, rows)
        ),
        gifts=tuple(
            gift
            for gift in item.gifts
            if (block_hash, gift[0].txid, gift[0].position) not in rows.inflows
            and not _may_be_booked(network, gift[0], rows)
        ),
        coded=NONE_CODED,  # of an old state: the follower asks for today's
    )
    return look, held


def _is_settled(row: RowMapping, block_hash: str) -> bool:
    """This block excluded the deposit, or it waits in this block for what it had before."""
    return bool(
        row["conflict_hash"] == block_hash
        or (row["block_hash"] == block_hash and row["state"] == "orphaned")
    )


def _may_be_booked(network: Network, transfer: Transfer, rows: _Rows) -> bool:
    """Whether an unexplained inflow of its account may be this value."""
    address = rows.own.get(transfer.to_key)
    if address is None or network.asset(transfer.asset) is None or transfer.amount_minor <= 0:
        return False
    return _difference(network, address, transfer.asset, rows) >= transfer.amount_minor


def _difference(network: Network, address: AddressRow, asset: str, rows: _Rows) -> int:
    """The largest unexplained inflow of the address's custody account."""
    account = custody_account(
        family=network.family,
        network=network.name,
        role=address.role,
        brand=address.brand,
        asset=asset,
    )
    return rows.differences.get(account.code, 0)


def _is_new(
    network: Network,
    finding: Finding,
    block: Block,
    places: Mapping[_Place, RowMapping],
    rows: _Rows,
) -> bool:
    """A contradiction that nobody has told of, about nothing that is recorded."""
    booked = _difference(network, finding.address, finding.asset.id, rows)
    if finding.suspense_minor and booked >= finding.suspense_minor:
        return False
    name = (block.ref.hash, finding.kind.value, finding.asset.id, finding.address.address)
    return name not in rows.searches and not any(
        (item.txid, item.position) in places for item in finding.withheld
    )
