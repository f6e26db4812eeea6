"""What a difference between books and chain is, and where it is: the drill-down of a comparison.

Pure of effects: reads rows, and nodes only where something differs. A difference that nothing
explains stays an unknown inflow or outflow; an explanation may only name it smaller, never hide it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping

from config.chains import Family
from config.database import Database, Uow
from ledger import reconcile
from watchers import account_balances, coin_search_store
from watchers import break_store as store
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import AccountSend, Chain, ChainReader
from watchers.errors import NodeError
from watchers.inflows import custody_account
from watchers.network import Network
from watchers.reconcile_chain import Holdings

EVIDENCE_MAX = 50  # places named of one break, the newest first; the rest is counted
BLOCKS_MAX = 100  # account chains: blocks searched for what our keys sent, the newest first
STUCK_AFTER = timedelta(hours=1)  # the settlement of a final tx takes seconds


class BreakKind(StrEnum):
    """Why books and chain differ."""

    UNINGESTED_DEPOSIT = "uningested_deposit"
    """A deposit address holds more than its deposits explain, or the node's set of unspent outputs
    has a coin of ours that no block showed us."""
    UNPOSTED_FEE = "unposted_fee"
    """The chain took fees of own transactions that the settled books do not have."""
    UNKNOWN_OUTGOING = "unknown_outgoing"
    """A wallet holds less than the books say, and no transaction of ours took it."""
    UNKNOWN_INCOMING = "unknown_incoming"
    """A wallet holds more than everything explains."""
    DUST = "dust"
    """The same, below the asset's dust limit."""
    STUCK = "stuck"
    """Final on the chain and yet not in the books after the time that this takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One break of one comparison. `difference_minor` is chain less books; 0 of what is stuck.

    `subject` is the custody account, of `stuck` the object. Amounts in `details` are texts.
    """

    kind: BreakKind
    subject: str
    asset: str
    difference_minor: int
    details: Mapping[str, Any]


async def explain(
    database: Database, chain: Chain, network: Network, held: Holdings, *, at: datetime
) -> list[Finding]:
    """Every break of a comparison, classified, with where it is as far as rows and nodes tell."""
    found: list[Finding] = []
    for code, difference in held.breaks.items():
        asset = code.split(":", 2)[2]
        if difference < 0:
            found += await _outgoing(database, chain.reader, network, held, code, asset, difference)
        else:
            found.append(await _incoming(database, network, held, code, asset, difference))
    async with database.unit_of_work() as uow:
        rows = await store.stuck(
            uow, network=network.name, height=held.height, before=at - STUCK_AFTER
        )
        missed = await coin_search_store.missed(uow, network=network.name, height=held.height)
    found += _missed(network, missed)
    return found + [
        Finding(
            kind=BreakKind.STUCK,
            subject=f"{row['kind']}:{row['id']}",
            asset=row["asset"] or network.spec.native_asset,
            difference_minor=0,
            details={"txid": row["txid"], "state": row["state"], "height": row["height"]},
        )
        for row in rows
    ]


def _missed(network: Network, rows: Sequence[RowMapping]) -> list[Finding]:
    """Coins that only the search of the node's set knows (`coin_search`), by wallet."""
    native = network.spec.native_asset
    by_code: dict[str, list[RowMapping]] = {}
    for row in rows:
        role = AddressRole(row["role"])
        code = custody_account(
            family=network.family, network=network.name, role=role, brand=None, asset=native
        ).code
        by_code.setdefault(code, []).append(row)
    return [
        _finding(
            BreakKind.UNINGESTED_DEPOSIT,
            code,
            native,
            sum(int(row["amount"]) for row in of_wallet),
            [
                {
                    "coin": f"{row['txid']}:{row['vout']}",
                    "address": row["address"],
                    "txid": row["txid"],
                    "height": row["height"],
                    "amount_minor": str(int(row["amount"])),
                    "is_looked_at_again": row["rescan_id"] is not None,
                }
                for row in of_wallet
            ],
            None,
        )
        for code, of_wallet in sorted(by_code.items())
    ]


async def _outgoing(
    database: Database,
    reader: ChainReader,
    network: Network,
    held: Holdings,
    code: str,
    asset: str,
    difference: int,
) -> list[Finding]:
    """What is missing: what a tx of nobody here took comes first, since no fee may hide it; then
    fees that nobody booked, as far as they reach; the rest is unknown."""
    found = []
    async with database.snapshot() as uow:  # a settlement between two reads would look like a fee
        fees = await unposted_fees(uow, network, held, code, asset)
        since = await store.clean_height(uow, network=network.name, account=code)
        places = await _places(uow, network, held, code, asset, since)
    if network.family is not Family.BITCOIN:
        taken = await _foreign_sends(database, reader, network, held, code, asset, since)
        places = [*taken, *places]
    else:
        places += await _missing_coins(reader, held)
        taken = places
    foreign = -sum(int(row["amount_minor"]) + int(row.get("returned_minor", 0)) for row in taken)
    missing = -difference
    booked = sum(int(row["amount_minor"]) for row in fees)
    if 0 < booked <= missing - max(foreign, 0):
        found.append(_finding(BreakKind.UNPOSTED_FEE, code, asset, -booked, fees, since))
        missing -= booked
    if missing == 0:
        return found
    return [
        *found,
        _finding(BreakKind.UNKNOWN_OUTGOING, code, asset, -missing, places, since),
    ]


async def _incoming(
    database: Database,
    network: Network,
    held: Holdings,
    code: str,
    asset: str,
    difference: int,
) -> Finding:
    async with database.unit_of_work() as uow:
        since = await store.clean_height(uow, network=network.name, account=code)
        places = await _balances_off(uow, network, held, code, asset)
    spec = network.asset(asset)
    kind = BreakKind.UNKNOWN_INCOMING
    if spec is not None and difference <= spec.dust_minor:
        kind = BreakKind.DUST
    elif code.split(":")[1].split("/")[1] == AddressRole.DEPOSIT:
        kind = BreakKind.UNINGESTED_DEPOSIT
    waiting = min(difference, held.awaited.get(code, 0))
    found = _finding(kind, code, asset, difference, places, since)
    if not waiting:
        return found
    details = {**found.details, "awaited_minor": str(waiting)}  # traced deposits in no block
    return Finding(
        kind=kind, subject=code, asset=asset, difference_minor=difference, details=details
    )


def _finding(
    kind: BreakKind,
    code: str,
    asset: str,
    difference: int,
    places: Sequence[Mapping[str, Any]],
    since: int | None,
) -> Finding:
    return Finding(
        kind=kind,
        subject=code,
        asset=asset,
        difference_minor=difference,
        details={
            "places": list(places[:EVIDENCE_MAX]),
            "left_off": max(len(places) - EVIDENCE_MAX, 0),
            "last_clean_height": since,
        },
    )


async def unposted_fees(
    uow: Uow, network: Network, held: Holdings, code: str, asset: str
) -> list[dict[str, Any]]:
    """Blocks whose settled own transactions cost more than the books say, of the hot wallet; none
    while books and chain agree, or a theft could hide behind it."""
    if asset != network.spec.native_asset or code != _hot(network, asset):
        return []
    rows = await store.settled_fees(uow, network=network.name, height=held.height)
    booked = await reconcile.fees_of_blocks(
        uow, network=network.name, asset=asset, hashes=[row["block_hash"] for row in rows]
    )
    return [
        {
            "block_hash": row["block_hash"],
            "height": row["height"],
            "txids": row["txids"],
            "amount_minor": str(int(row["fees"]) - booked.get(row["block_hash"], 0)),
        }
        for row in rows
        if int(row["fees"]) > booked.get(row["block_hash"], 0)
    ]


async def _places(
    uow: Uow, network: Network, held: Holdings, code: str, asset: str, since: int | None
) -> list[dict[str, Any]]:
    """By rows alone: coins that a tx of nobody here spent, addresses that hold other than known."""
    if network.family is not Family.BITCOIN:
        return await _balances_off(uow, network, held, code, asset)
    rows = await store.foreign_spends(
        uow, network=network.name, asset=asset, since=since, height=held.height
    )
    return [
        {
            "coin": f"{row['txid']}:{row['vout']}",
            "address": row["address"],
            "txid": row["spent_by"],
            "height": row["spent_height"],
            "amount_minor": str(-int(row["amount"])),
            "returned_minor": str(int(row["returned"])),
        }
        for row in rows
        if _code(network, row, asset) == code
    ]


async def _missing_coins(reader: ChainReader, held: Holdings) -> list[dict[str, Any]]:
    """Coins that our blocks left unspent and the node does not have."""
    found = []
    for coin in held.missing[:EVIDENCE_MAX]:
        try:
            spender = await reader.spender(coin.outpoint)
        except NodeError:
            spender = None
        found.append(
            {
                "coin": f"{coin.outpoint.txid}:{coin.outpoint.vout}",
                "txid": spender,
                "amount_minor": str(-coin.amount_minor),
            }
        )
    return found


async def _balances_off(
    uow: Uow, network: Network, held: Holdings, code: str, asset: str
) -> list[dict[str, Any]]:
    """Account chains: addresses of an account whose balance is not what is known of them.

    Of the operator's own that is what the blocks' evidence adds up to, of the others what arrived
    and what our transactions moved.
    """
    mine = {row.key: row for row in held.own if _code_of(network, row, asset) == code}
    drifted = {
        drift.place[0]: drift.chain_minor - drift.amount_minor
        for drift in held.drifts
        if drift.place[1] == asset and drift.place[0] in mine
    }
    deposits = [row for row in mine.values() if row.role not in account_balances.ROLES]
    if deposits:
        known = await store.known_balances(
            uow,
            network=network.name,
            asset=asset,
            is_native=asset == network.spec.native_asset,
            height=held.height,
            address_ids=[row.id for row in deposits],
        )
        for row in deposits:
            off = held.balances.get((row.key, asset), 0) - known.get(row.key, 0)
            if off:
                drifted[row.key] = off
    return [
        {"address": mine[key].address, "amount_minor": str(amount)}
        for key, amount in sorted(drifted.items(), key=lambda item: (item[1], item[0]))
    ]


async def _foreign_sends(
    database: Database,
    reader: ChainReader,
    network: Network,
    held: Holdings,
    code: str,
    asset: str,
    since: int | None,
) -> list[dict[str, Any]]:
    """Transactions of our own accounts that these books did not make, the newest first."""
    mine = {row.key: row for row in held.own if _code_of(network, row, asset) == code}
    async with database.unit_of_work() as uow:
        blocks = await store.blocks_since(
            uow, network=network.name, since=since, height=held.height, limit=BLOCKS_MAX
        )
    found: list[tuple[AccountSend, int]] = []
    for row in blocks:
        try:
            block = await reader.block(row["hash"])
        except NodeError:  # a block that no node has any more explains nothing
            continue
        found += [
            (send, row["height"])
            for send in block.sends
            if send.sender_key in mine or (send.batch is not None and send.batch.payer_key in mine)
        ]
    async with database.unit_of_work() as uow:
        ours = await store.own_txids(
            uow, network=network.name, txids=[send.txid for send, _ in found]
        )
    return [
        place
        for send, height in found
        if send.txid not in ours
        for place in _lost(network, mine, send, height, asset)
    ]


def _lost(
    network: Network, mine: Mapping[str, AddressRow], send: AccountSend, height: int, asset: str
) -> list[dict[str, Any]]:
    """What one tx took of an asset from each of our accounts; its fee counts as the sender's."""
    lost: dict[str, int] = {}
    for payer, moved, _, amount in account_balances.outs(send):
        if payer in mine and moved == asset:
            lost[payer] = lost.get(payer, 0) + amount
    if send.sender_key in mine and asset == network.spec.native_asset:
        lost[send.sender_key] = lost.get(send.sender_key, 0) + send.fee_minor
    return [
        {
            "address": mine[key].address,
            "txid": send.txid,
            "nonce": send.nonce,
            "height": height,
            "amount_minor": str(-amount),
            "to": sorted({to for _, moved, to, _ in account_balances.outs(send) if moved == asset}),
        }
        for key, amount in sorted(lost.items())
        if amount
    ]


def _hot(network: Network, asset: str) -> str:
    return custody_account(
        family=network.family,
        network=network.name,
        role=AddressRole.HOT,
        brand=None,
        asset=asset,
    ).code


def _code_of(network: Network, row: AddressRow, asset: str) -> str:
    return custody_account(
        family=network.family, network=network.name, role=row.role, brand=row.brand, asset=asset
    ).code


def _code(network: Network, row: RowMapping, asset: str) -> str:
    return custody_account(
        family=network.family,
        network=network.name,
        role=AddressRole(row["role"]),
        brand=row["brand"],
        asset=asset,
    ).code
