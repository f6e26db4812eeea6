"""What logs and traces claim against what contracts and accounts hold, over one block.

Owns the judgement: a claim is credited at most as far as the balance moved (D39), a balance that
moved further is no deposit but suspense (D47), and what cannot be is withheld (D38, D53). It only
looks (`look`, outside any unit of work) and writes down what it saw (`record`, inside the block's);
which deposits there are is the business of `deposit_blocks.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from config import alarm_store
from config.assets import AssetSpec
from config.chains import Family, Traces
from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import addresses, inflows, switches, token_store
from watchers.address_filter import AddressFilter
from watchers.addresses import AddressRow
from watchers.batch_contract import SCHEME
from watchers.chain import Block, ChainReader, TokenFacts, Transfer
from watchers.code_checks import NONE_CODED, CodeChecks, Coded
from watchers.errors import StateUnavailable
from watchers.network import Network

log = get_logger("watchers.token_checks")

KEYS_PER_CALL = 200  # addresses per holdings call
LOOK_SECONDS = 3.0  # after which what was looked at is connected: it keeps the lease (10 s)
BOOKED_MAX_MINOR = 2**128 - 1  # above every real supply; sums of it fit NUMERIC(78, 0)
ACTOR = "watchers.token_checks"


class FindingKind(StrEnum):
    """What contradicts what."""

    SHORT = "short"
    """The balance moved less than the logs claim, and the asset keeps no fee (D39)."""
    IMPOSSIBLE = "impossible"
    """A log claims more than the whole supply (D53)."""
    DECIMALS = "decimals"
    """The contract says other decimals than the registry (D38)."""
    SURPLUS = "surplus"
    """The balance moved more than all claims (D47)."""
    UNCHECKED = "unchecked"
    """No node has the state that says what arrived of a token that keeps a fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One own account and asset in one block, minor units. `withheld` makes no deposit;
    `suspense_minor` of what arrived is booked as an inflow, the rest of a claim as nothing."""

    kind: FindingKind
    asset: AssetSpec
    address: AddressRow
    claimed_minor: int
    moved_minor: int
    suspense_minor: int
    withheld: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A block as far as balances confirm it, and what they contradict.

    `gifts` are those to own accounts; `coded` tells of own keys that have code (D48).
    """

    block: Block
    findings: tuple[Finding, ...] = ()
    gifts: tuple[tuple[Transfer, AddressRow], ...] = ()
    coded: Coded = NONE_CODED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Transfers of one asset to one own account, and how the balance moved without our own txs.

    `moved_minor` None: no node has that state any more.
    """

    asset: AssetSpec
    address: AddressRow
    transfers: tuple[Transfer, ...]
    gifts_minor: int
    moved_minor: int | None
    facts: TokenFacts | None


async def look(
    database: Database,
    reader: ChainReader,
    network: Network,
    known: AddressFilter,
    run: Sequence[Block],
    *,
    codes: CodeChecks | None = None,
    clock: Clock,
) -> list[Look]:
    """Compare what each block of a run claims with balances at it and at its parent, by hash: of
    the first blocks of the run, as many as LOOK_SECONDS allow.

    Asks only about own accounts that the blocks name; whether those have code it asks once, at the
    last block. Raises NodeUnavailable, TipMoved.
    """
    if network.family is not Family.EVM:
        return [Look(block=block) for block in run]
    keys = {item.to_key for block in run for item in (*block.transfers, *block.gifts)}
    keys |= {item.sender_key for block in run for item in block.sends}
    async with database.unit_of_work() as uow:
        await known.extend(uow)
        own = await addresses.by_keys(uow, network=network.name, keys=known.candidates(keys))
    if not own:
        return [Look(block=block) for block in run]
    until = clock.monotonic_seconds() + LOOK_SECONDS
    looks = [await _look(reader, network, run[0], own)]
    while len(looks) < len(run) and clock.monotonic_seconds() < until:
        looks.append(await _look(reader, network, run[len(looks)], own))
    seen = run[: len(looks)]
    paid = {key for block in seen for key in _paid_keys(network, block, own)}
    coded = await (codes or CodeChecks()).ask(reader, seen, paid)
    return [*looks[:-1], replace(looks[-1], coded=coded)]


async def _look(
    reader: ChainReader, network: Network, block: Block, own: Mapping[str, AddressRow]
) -> Look:
    claims = await _claims(reader, network, block, own)
    judged = [_judge(claim, is_whole=not block.traces_incomplete) for claim in claims]
    changed = {_place(item): cut for cuts, _ in judged for item, cut in cuts}
    kept = (changed.get(_place(item), item) for item in block.transfers)
    return Look(
        block=replace(block, transfers=tuple(item for item in kept if item is not None)),
        findings=tuple(finding for _, finding in judged if finding is not None),
        gifts=tuple((item, own[item.to_key]) for item in block.gifts if item.to_key in own),
    )


def _place(item: Transfer) -> tuple[str, str]:
    return (item.txid, item.position)


def _paid_keys(network: Network, block: Block, own: Mapping[str, AddressRow]) -> set[str]:
    """Own accounts that something of value reached or left: anyone can name others for nothing."""
    keys = {
        item.to_key
        for item in (*block.transfers, *block.gifts)
        if item.to_key in own and item.amount_minor > 0 and network.asset(item.asset) is not None
    }
    coded = {key for key, row in own.items() if row.scheme == SCHEME}  # ours, and has its code
    coded |= {network.spec.safe or ""}
    return ((keys | {item.sender_key for item in block.sends}) & own.keys()) - coded


async def _claims(
    reader: ChainReader, network: Network, block: Block, own: Mapping[str, AddressRow]
) -> list[_Claim]:
    found: list[_Claim] = []
    for asset, by_key in _received(network, block, own).items():
        keys = sorted(by_key)
        change, facts = await moved(reader, network, block, asset, keys)
        for key in keys:
            gifts = sum(
                item.amount_minor
                for item in block.gifts
                if (item.to_key, item.asset) == (key, asset.id)
            )
            found.append(
                _Claim(
                    asset=asset,
                    address=own[key],
                    transfers=tuple(by_key[key]),
                    gifts_minor=gifts,
                    moved_minor=change.get(key),
                    facts=facts,
                )
            )
    return found


def _received(
    network: Network, block: Block, own: Mapping[str, AddressRow]
) -> dict[AssetSpec, dict[str, list[Transfer]]]:
    """Listed tokens to own accounts, and the native coin where a call moved it: a tx's own value
    is proven by its receipt, a frame by nothing."""
    traced = {item.to_key for item in block.transfers if item.position.startswith("trace:")}
    found: dict[AssetSpec, dict[str, list[Transfer]]] = {}
    for item in block.transfers:
        asset = network.asset(item.asset) if item.to_key in own else None
        if asset is None:
            continue
        if asset.is_native and item.to_key not in traced:
            continue
        found.setdefault(asset, {}).setdefault(item.to_key, []).append(item)
    return found


async def moved(
    reader: ChainReader, network: Network, block: Block, asset: AssetSpec, keys: Sequence[str]
) -> tuple[dict[str, int], TokenFacts | None]:
    """By how much each account moved, its own txs left out; empty where the state is gone."""
    found: dict[str, int] = {}
    facts = None
    try:
        for start in range(0, len(keys), KEYS_PER_CALL):
            part = keys[start : start + KEYS_PER_CALL]
            before = await reader.holdings(part, asset.id, block_hash=block.ref.parent_hash)
            after = await reader.holdings(part, asset.id, block_hash=block.ref.hash)
            found |= {key: after[key] - before[key] for key in part}
        if not asset.is_native:
            facts = await reader.token_facts(asset.id, block_hash=block.ref.hash)
    except StateUnavailable as error:
        log.warning("token.unchecked", network=network.name, asset=asset.id, error=str(error))
        return {}, None
    for send in block.sends:
        if send.batch is not None and send.batch.payer_key in found:
            out = sum(amount for name, _, amount in send.batch.moved if name == asset.id)
            found[send.batch.payer_key] += out
        for key, (name, _, amount) in send.collected or ():
            if key in found and name == asset.id and key != send.sender_key:
                found[key] += amount
        if send.sender_key not in found:
            continue
        out = sum(amount for name, _, amount in send.transfers_out if name == asset.id)
        found[send.sender_key] += out + (send.fee_minor if asset.is_native else 0)
    return found, facts


_Cut = tuple[Transfer, Transfer | None]
"""A transfer and what is left of it; None: it makes no deposit."""


def _judge(claim: _Claim, *, is_whole: bool = True) -> tuple[list[_Cut], Finding | None]:
    """What becomes of the transfers of one claim. Pure.

    A surplus of coins in a block that is not traced whole is left to the reconciliation, which
    knows the deposits that may explain it (`retrace.py`).
    """
    claimed = sum(item.amount_minor for item in claim.transfers) + claim.gifts_minor
    kind = _impossible(claim)
    if kind is not None:
        return _withhold(claim, kind, claimed)
    if claim.moved_minor is None:
        if claim.asset.has_transfer_fee:
            return _withhold(claim, FindingKind.UNCHECKED, claimed)
        return [], None  # the receipt alone is the evidence, as for every plain token
    if claim.moved_minor > claimed and claim.asset.is_native and not is_whole:
        return [], None
    if claim.moved_minor > claimed:
        surplus = claim.moved_minor - claimed
        return [], _finding(claim, FindingKind.SURPLUS, claimed, surplus, withheld=())
    if claim.moved_minor == claimed:
        return [], None
    if claim.asset.has_transfer_fee and claim.moved_minor > 0:
        return _shares(claim.transfers, claim.moved_minor), None
    return _withhold(claim, FindingKind.SHORT, claimed)


def _impossible(claim: _Claim) -> FindingKind | None:
    if claim.facts is None:
        return None
    if claim.facts.decimals != claim.asset.decimals:
        return FindingKind.DECIMALS
    supply = claim.facts.total_supply_minor
    limit = BOOKED_MAX_MINOR if supply is None else min(supply, BOOKED_MAX_MINOR)
    if any(item.amount_minor > limit for item in claim.transfers):
        return FindingKind.IMPOSSIBLE
    return None


def _withhold(claim: _Claim, kind: FindingKind, claimed: int) -> tuple[list[_Cut], Finding | None]:
    # Gifts are inflows of their own: only what arrived beside them is this claim's.
    arrived = max(0, (claim.moved_minor or 0) - claim.gifts_minor)
    suspense = arrived if arrived <= BOOKED_MAX_MINOR else 0
    finding = _finding(claim, kind, claimed, suspense, withheld=claim.transfers)
    return [(item, None) for item in claim.transfers], finding


def _finding(
    claim: _Claim,
    kind: FindingKind,
    claimed: int,
    suspense: int,
    *,
    withheld: tuple[Transfer, ...],
) -> Finding:
    return Finding(
        kind=kind,
        asset=claim.asset,
        address=claim.address,
        claimed_minor=claimed,
        moved_minor=claim.moved_minor or 0,
        suspense_minor=suspense if suspense <= BOOKED_MAX_MINOR else 0,
        withheld=withheld,
    )


def _shares(transfers: Sequence[Transfer], arrived: int) -> list[_Cut]:
    """What arrived, less than claimed, shared by amount: rounded down, the rest unit by unit from
    the first on, so that no part is above its claim. One owner has them all."""
    total = sum(item.amount_minor for item in transfers)
    parts = [item.amount_minor * arrived // total for item in transfers]
    rest = arrived - sum(parts)  # fewer units than parts, and each part is below its claim
    parts = [part + (number < rest) for number, part in enumerate(parts)]
    return [
        (item, replace(item, amount_minor=part) if part else None)
        for item, part in zip(transfers, parts, strict=True)
    ]


async def record(uow: Uow, network: Network, run: Sequence[Look], *, at: datetime) -> None:
    """Write down what looks found, in the unit of work that connects their blocks."""
    for seen in run:
        await _record_one(uow, network, seen, at=at)
    untraced = next((seen.block.ref for seen in run if seen.block.traces_incomplete), None)
    if untraced is not None and network.spec.traces is Traces.AUTO:
        await _alarm(
            uow,
            network,
            "traces_incomplete",
            f"since block {untraced.height}: coins moved by contract calls show only in "
            "the reconciliation",
            at=at,
        )


async def _record_one(uow: Uow, network: Network, seen: Look, *, at: datetime) -> None:
    for finding in seen.findings:
        await _record_finding(uow, network, seen.block, finding, at=at)
    arrived = [
        (_suspended(seen.block, item), item.address, item.asset)
        for item in seen.findings
        if item.suspense_minor
    ]
    coin = network.assets.get(network.spec.native_asset)
    arrived += [(gift, address, coin) for gift, address in seen.gifts if coin is not None]
    await inflows.connect(
        uow,
        [
            (seen.block.ref, item, address, _full_depth(network, asset, item))
            for item, address, asset in arrived
        ],
        network=network.name,
        ids=network.ids,
        at=at,
    )
    if seen.gifts:
        told = ", ".join(sorted({address.address for _, address in seen.gifts}))
        await _alarm(uow, network, "unexplained_inflow", f"nobody paid it: {told}", at=at)
    if seen.coded.unasked:
        detail = f"no node told of {seen.coded.unasked} accounts; they are asked about again"
        await _alarm(uow, network, "code_unchecked", detail, at=at)
    if seen.coded.keys:
        fresh = await token_store.flag_code(
            uow, network=network.name, keys=sorted(seen.coded.keys), at=at
        )
        if fresh:
            await _alarm(uow, network, "code_at_address", ", ".join(fresh), at=at)


async def _record_finding(
    uow: Uow, network: Network, block: Block, finding: Finding, *, at: datetime
) -> None:
    asset, address = finding.asset, finding.address
    log.error("token.contradiction", network=network.name, asset=asset.id, kind=finding.kind.value)
    await token_store.open_search(
        uow,
        {
            "id": network.ids.new_id(),
            "network": network.name,
            "kind": finding.kind.value,
            "asset": asset.id,
            "subject": address.address,
            "brand": address.brand,
            "player_id": address.player_id,
            "block_hash": block.ref.hash,
            "height": block.ref.height,
            "claimed": finding.claimed_minor,
            "moved": finding.moved_minor,
            "transfers": [
                {"txid": item.txid, "position": item.position, "amount": str(item.amount_minor)}
                for item in finding.withheld
            ],
            "at": at,
        },
    )
    kind = "unexplained_inflow" if finding.kind is FindingKind.SURPLUS else "token_contradiction"
    detail = f"{asset.id} at {address.address}: {finding.kind.value} in block {block.ref.height}"
    await _alarm(uow, network, kind, detail, at=at)
    action = _breaker(finding)
    if action is not None:
        reason = f"{finding.kind.value}: logs and balances of {asset.contract} contradict"
        await _stop(uow, network, asset, action, reason, at=at)


def _breaker(finding: Finding) -> switches.Action | None:
    """A token that lies is stopped; frames of one node are only not believed."""
    if finding.asset.is_native:
        return None
    match finding.kind:
        case FindingKind.SHORT | FindingKind.IMPOSSIBLE:
            return switches.Action.CREDIT
        case FindingKind.DECIMALS:
            return switches.Action.ALL
        case _:
            return None


async def verify_decimals(
    database: Database, reader: ChainReader, network: Network, *, clock: Clock
) -> list[str]:
    """Disable each listed token whose contract says other decimals than the registry (D38).

    Returns their ids. Raises NodeUnavailable.
    """
    tip = await reader.tip()
    wrong: list[tuple[AssetSpec, int | None]] = []
    for asset in _tokens(network):
        facts = await reader.token_facts(asset.id, block_hash=tip.hash)
        if facts.decimals != asset.decimals:
            wrong.append((asset, facts.decimals))
    at = clock.now()
    async with database.unit_of_work() as uow:
        for asset, found in wrong:
            reason = f"decimals: the registry says {asset.decimals}, the contract {found}"
            await _stop(uow, network, asset, switches.Action.ALL, reason, at=at)
            await _alarm(uow, network, "asset_disabled", f"{asset.id}: {reason}", at=at)
    return [asset.id for asset, _ in wrong]


def _tokens(network: Network) -> Iterable[AssetSpec]:
    return (
        item
        for item in network.assets.values()
        if item.network == network.name and not item.is_native
    )


def _suspended(block: Block, finding: Finding) -> Transfer:
    """The inflow of a contradiction: its txid is the block's hash, as no tx explains it."""
    return Transfer(
        txid=block.ref.hash,
        position=f"balance:{finding.asset.id}:{finding.address.key}",
        asset=finding.asset.id,
        to_key=finding.address.key,
        amount_minor=finding.suspense_minor,
    )


def _full_depth(network: Network, asset: AssetSpec, item: Transfer) -> int:
    return network.depths(asset, item.amount_minor, is_coinbase=False).full_depth


async def _stop(
    uow: Uow,
    network: Network,
    asset: AssetSpec,
    action: switches.Action,
    reason: str,
    *,
    at: datetime,
) -> None:
    await switches.open_breaker(
        uow,
        scope=f"asset:{asset.id}",
        action=action,
        reason=reason,
        actor=ACTOR,
        ids=network.ids,
        at=at,
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
