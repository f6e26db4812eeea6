"""A proof of reserves from what the watchers answered and the casinos reported (docs/adr/0036).

Pure: claims, trees, the parts as text, and the statement over them. It decides nothing about when;
a shortfall is written down like any other figure.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from config.assets import AssetSpec
from config.chains import ChainSpec
from gateway.api.wire_base import rfc3339
from gateway.proofs_store import AddressOfProof, LeafRow, ReportedBalance
from ledger import sum_tree
from ledger.sum_tree import SALT_BYTES, Node, Owed, SumTree
from signer.protocol import protocol_reserves

HOUSE = "*"
REPORT_MINOR_MAX = 1 << 120
"""What one casino may report of one asset: 256 of them fit into what a tree can sum."""
TREES_KEPT = 2  # of 100,000 leaves: 0.4 s to build, some 40 MB each; players ask for the same ones
_OF_PLAYERS = frozenset({"held", "reserved", "in_flight"})
"""Stages that a casino has taken off the player's balance, or never put on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who is owed what, and by how much casinos promise more than they have here (by asset)."""

    owed: Sequence[Owed]
    unfunded: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A proof before it is signed."""

    statement: str
    liabilities: Mapping[str, str]
    holdings: Mapping[str, str]
    transactions: Mapping[str, str]
    leaves: Sequence[LeafRow]
    addresses: Sequence[AddressOfProof]


def believable(reported: Sequence[ReportedBalance]) -> list[ReportedBalance]:
    """Without casinos that report more of an asset than there can be: each has one claim again, as
    if it reported nothing, and nobody else's proof fails of it."""
    total: Counter[tuple[str, str]] = Counter()
    for item in reported:
        total[item.brand, item.asset] += item.amount_minor
    absurd = {brand for (brand, _), amount in total.items() if amount > REPORT_MINOR_MAX}
    return [item for item in reported if item.brand not in absurd]


def claims_of(
    rows: Iterable[Mapping[str, Any]], reported: Sequence[ReportedBalance], assets: Iterable[str]
) -> Claims:
    """One claim per player of a casino that reports, else one per casino; and the house's.

    A reporting casino's clearing and its players' provisional value back what it reports; what is
    left is the casino's own. If it reports more, the whole report stays owed, and the difference is
    told as `unfunded`.
    """
    pool: Counter[tuple[str, str]] = Counter()  # (brand, asset)
    staged: Counter[tuple[str, str, str]] = Counter()  # (brand, player, asset)
    house: Counter[str] = Counter()
    for row in rows:
        kind, asset, amount = row["kind"], row["asset"], int(row["amount_minor"])
        if kind in ("clearing", "provisional"):
            pool[row["brand"], asset] += amount
        elif kind in _OF_PLAYERS:
            staged[row["brand"], row["player_id"], asset] += amount
        elif kind in ("unallocated", "suspense"):
            house[asset] += amount
    served = set(assets)
    reporting = {item.brand for item in reported}
    promised: Counter[tuple[str, str]] = Counter()
    for item in reported:
        if item.asset in served:
            staged[item.brand, item.player_id, item.asset] += item.amount_minor
            promised[item.brand, item.asset] += item.amount_minor
    for (brand, player_id, asset), amount in list(staged.items()):
        if brand not in reporting:
            pool[brand, asset] += amount
            del staged[brand, player_id, asset]
    pool.subtract(promised)
    owed = [
        Owed(asset=asset, kind="player", brand=brand, player_id=player_id, amount_minor=amount)
        for (brand, player_id, asset), amount in staged.items()
        if amount > 0
    ]
    owed += [
        Owed(asset=asset, kind="brand", brand=brand, player_id="", amount_minor=amount)
        for (brand, asset), amount in pool.items()
        if amount > 0
    ]
    owed += [
        Owed(asset=asset, kind="house", brand=HOUSE, player_id="", amount_minor=amount)
        for asset, amount in house.items()
        if amount > 0
    ]
    unfunded: Counter[str] = Counter()
    for (_, asset), amount in pool.items():
        unfunded[asset] += max(0, -amount)
    return Claims(owed=owed, unfunded=unfunded)


def assemble(
    *,
    proof_id: str,
    livemode: bool,
    at: datetime,
    answers: Mapping[str, Mapping[str, Any]],
    reported: Sequence[ReportedBalance],
    chains: Mapping[str, ChainSpec],
    assets: Mapping[str, AssetSpec],
    previous: str | None,
    salt: Callable[[int], bytes],
) -> Assembled:
    """Trees, parts and statement. `answers` by network, as `watchers.probes` gives them;
    `previous` is the statement before this one. Raises SumTreeError."""
    served = [asset for asset, spec in assets.items() if spec.network in answers]
    rows = [row for answer in answers.values() for row in answer["owed"]]
    claims = claims_of(rows, believable(reported), served)
    by_asset: dict[str, list[Owed]] = defaultdict(list)
    for owed in claims.owed:
        by_asset[owed.asset].append(owed)
    liabilities, leaves, lines = dict[str, str](), list[LeafRow](), list[dict[str, Any]]()
    receivable = Counter[str]()
    for row in rows:
        if row["kind"] == "receivable":
            receivable[row["asset"]] += int(row["amount_minor"])
    for asset in sorted({*served, *by_asset}):
        tree, mine = _tree(by_asset[asset], salt)
        leaves += mine
        liabilities[asset] = "".join(
            f"{node.hash.hex()} {node.sum_minor}\n" for node in tree.leaves
        )
        lines.append(
            {
                **_named(assets.get(asset), asset),
                "owed": {
                    "leaves": tree.count,
                    "root": tree.root.hash.hex(),
                    "sum": str(tree.root.sum_minor),
                    "unfunded": str(claims.unfunded.get(asset, 0)),
                },
                **_reserves(asset, answers, tree.root.sum_minor),
                "receivable": str(receivable[asset]),
            }
        )
    holdings = {network: _holdings(answer) for network, answer in sorted(answers.items())}
    content = {
        "proof": proof_id,
        "livemode": livemode,
        "made_at": rfc3339(at),
        "previous": None if previous is None else _digest(previous),
        "networks": [
            _network(name, answers[name], chains[name], holdings[name]) for name in sorted(answers)
        ],
        "assets": lines,
        "reports": _reports(believable(reported)),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Assembled(
        statement=protocol_reserves.check_reserves_statement(
            f"{protocol_reserves.RESERVES_VERSION}\n{text}"
        ),
        liabilities=liabilities,
        holdings=holdings,
        transactions={
            network: "".join(f"{txid} {raw}\n" for txid, raw in answer["transactions"].items())
            for network, answer in answers.items()
        },
        leaves=leaves,
        addresses=_addresses(answers),
    )


@lru_cache(maxsize=TREES_KEPT)
def tree_of(content: str) -> SumTree:
    """The tree of a stored part; raises SumTreeError."""
    nodes = []
    for line in content.splitlines():
        digest, _, amount = line.partition(" ")
        nodes.append(Node(hash=bytes.fromhex(digest), sum_minor=int(amount)))
    return SumTree(nodes)


def _tree(claims: Sequence[Owed], salt: Callable[[int], bytes]) -> tuple[SumTree, list[LeafRow]]:
    """Salted hashes put the leaves in an order that tells nothing of their owners."""
    made = []
    for owed in claims:
        grain = salt(SALT_BYTES)
        made.append((sum_tree.leaf(owed, salt=grain), owed, grain))
    made.sort(key=lambda item: item[0].hash)
    rows = [
        LeafRow(
            asset=owed.asset,
            place=place,
            kind=owed.kind,
            brand=owed.brand,
            player_id=owed.player_id,
            amount_minor=owed.amount_minor,
            salt=grain,
        )
        for place, (_, owed, grain) in enumerate(made)
    ]
    return SumTree([node for node, _, _ in made]), rows


def _named(spec: AssetSpec | None, asset: str) -> dict[str, Any]:
    """An asset that is configured no more is still owed: it has its name only."""
    return {
        "asset": asset,
        "caip19": None if spec is None else spec.caip19,
        "decimals": None if spec is None else spec.decimals,
    }


def _reserves(
    asset: str, answers: Mapping[str, Mapping[str, Any]], owed_minor: int
) -> dict[str, str]:
    """reserves = on chain + sent and not yet settled - arrived and not yet owed to anybody."""
    answer = answers.get(asset.partition(":")[0], {})
    on_chain = sum(
        int(item["amount_minor"]) for item in answer.get("held", ()) if item["asset"] == asset
    )
    in_transit, unposted, unexplained = (
        sum(int(v) for code, v in answer.get(name, {}).items() if code.endswith(f":{asset}"))
        for name in ("unsettled", "unposted", "breaks")
    )
    reserves = on_chain + in_transit - unposted
    return {
        "on_chain": str(on_chain),
        "in_transit": str(in_transit),
        "unposted": str(unposted),
        "unexplained": str(unexplained),
        "reserves": str(reserves),
        "surplus": str(reserves - owed_minor),
    }


def _holdings(answer: Mapping[str, Any]) -> str:
    lines = [
        f"{item['asset']} {item['amount_minor']} {item['address']} {item['outpoint'] or '-'}\n"
        for item in answer["held"]
    ]
    return "".join(sorted(lines))


def _network(
    name: str, answer: Mapping[str, Any], spec: ChainSpec, holdings: str
) -> dict[str, Any]:
    return {
        "network": name,
        "caip2": spec.caip2,
        "height": answer["height"],
        "block_hash": answer["block_hash"],
        "holdings": {"count": len(answer["held"]), "sha256": _digest(holdings)},
    }


def _reports(reported: Sequence[ReportedBalance]) -> dict[str, Any]:
    moments = [item.as_of for item in reported]
    return {
        "brands": len({item.brand for item in reported}),
        "players": len({(item.brand, item.player_id) for item in reported}),
        "oldest": rfc3339(min(moments)) if moments else None,
        "newest": rfc3339(max(moments)) if moments else None,
    }


def _addresses(answers: Mapping[str, Mapping[str, Any]]) -> list[AddressOfProof]:
    found = {
        (network, item["address"]): item["path"]
        for network, answer in answers.items()
        for item in answer["held"]
    }
    return [
        AddressOfProof(
            network=network, address=address, path=path, code=None if path else "no_key_here"
        )
        for (network, address), path in sorted(found.items())
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
