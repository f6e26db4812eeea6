"""`cage treasury prove --verify`: checks a proof of reserves, or one owner's place in it, offline.

Owns the reading of both documents (docs/integration/proof-of-reserves.md) and the order of the
checks. It shares no code with what builds the trees: a verifier that does shares its bugs. It reads
no configuration, no database and no node; what rests on the operator's word is `told`, never
`proven`. Input is hostile: bounded and strictly typed.
"""

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.cli import deposit_proof_utxo, proof_document, reserves_keys
from gateway.cli.deposit_proof import Check, Status, Told
from gateway.cli.deposit_proof_errors import CheckFailed

BUNDLE = "cage-reserves-bundle/1"
INCLUSION = "cage-inclusion/1"
VERSION = "cage-reserves/1"
DOCUMENT_BYTES_MAX = 512 << 20  # three million leaves
SUM_MAX = (1 << 128) - 1  # no sum can wrap, here or in another's 256 bits
AMOUNT = re.compile(r"[1-9][0-9]{0,38}", re.ASCII)  # above zero, without a sign
TOTAL = re.compile(r"0|-?[1-9][0-9]{0,77}", re.ASCII)
VOUT = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OUTER = {
    BUNDLE: "format statement key_id public_key signature liabilities holdings transactions"
    " ownership",
    INCLUSION: "format proof statement key_id public_key signature leaves",
}
_LEAF = "asset kind brand player_id amount_minor salt place path"
_FIGURES = "on_chain in_transit unposted unexplained reserves surplus receivable"
_ASSET = f"asset caip19 decimals owed {_FIGURES}"

Node = tuple[bytes, int]
"""Hash and sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was read: the outer members, and the statement's."""

    outer: Mapping[str, Any]
    said: Mapping[str, Any]

    def owed(self, asset: str) -> Mapping[str, Any]:
        """What the statement says is owed of an asset."""
        for line in self.said["assets"]:
            if line["asset"] == asset:
                return dict(line["owed"])
        raise CheckFailed(f"{asset}: the statement does not name it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All checks in order. `is_covered` None: an inclusion says nothing of what is held."""

    checks: tuple[Check, ...]
    is_covered: bool | None

    @property
    def is_verified(self) -> bool:
        """Whether no check failed and there is a proof at all."""
        return len(self.checks) > 1 and all(c.status is not Status.FAILED for c in self.checks)


Step = Callable[[Document], str | Told]


def verify(content: bytes, *, pinned: Sequence[bytes] = ()) -> Verdict:
    """Every check; never raises, whatever the bytes are. `pinned`: 32-byte keys that the reader
    knows from elsewhere to be the operator's."""
    try:
        document = _read(content)
    except CheckFailed as error:
        failed = Check(name="format", status=Status.FAILED, detail=str(error))
        return Verdict(checks=(failed,), is_covered=None)
    steps: list[tuple[str, Step]] = [("signature", lambda d: _check_signature(d, pinned))]
    is_bundle = document.outer["format"] == BUNDLE
    if is_bundle:
        steps += [
            ("liabilities", _check_liabilities),
            ("holdings", _check_holdings),
            ("coins", _check_coins),
            ("sums", _check_sums),
            ("ownership", _check_ownership),
            ("blocks", _check_blocks),
            ("books", _check_books),
            ("coverage", _check_coverage),
        ]
    else:
        steps.append(("inclusion", _check_inclusion))
    named = Check(name="format", status=Status.PROVEN, detail=document.outer["format"])
    checks = (named, *(_run(name, step, document) for name, step in steps))
    return Verdict(checks=checks, is_covered=_is_covered(document, checks) if is_bundle else None)


def read(content: bytes) -> dict[str, Any]:
    """The members of a bundle that `verify` accepted, with the statement's as `said`."""
    document = _read(content)
    return {**document.outer, "said": document.said}


def shortfalls(content: bytes) -> dict[str, int]:
    """Asset -> minor units that are missing, of a document that `verify` could read."""
    said = _read(content).said
    return {
        line["asset"]: -int(line["surplus"]) for line in said["assets"] if int(line["surplus"]) < 0
    }


def _is_covered(document: Document, checks: Sequence[Check]) -> bool:
    are_sound = all(check.status is not Status.FAILED for check in checks)
    return are_sound and all(int(line["surplus"]) >= 0 for line in document.said["assets"])


def _run(name: str, step: Step, document: Document) -> Check:
    try:
        result = step(document)
    except CheckFailed as error:
        return Check(name=name, status=Status.FAILED, detail=str(error))
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
        detail = f"not readable: {type(error).__name__}"
        return Check(name=name, status=Status.FAILED, detail=detail)
    if isinstance(result, Told):
        return Check(name=name, status=Status.TOLD, detail=result.detail)
    return Check(name=name, status=Status.PROVEN, detail=result)


def _check_signature(document: Document, pinned: Sequence[bytes]) -> str | Told:
    outer = document.outer
    try:
        public_key = base64.b64decode(outer["public_key"], validate=True)
        signature = base64.b64decode(outer["signature"], validate=True)
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(signature, outer["statement"].encode("utf-8"))
    except (InvalidSignature, binascii.Error) as error:
        raise CheckFailed("the signature does not hold") from error
    if outer["key_id"] != "att_" + hashlib.sha256(public_key).hexdigest()[:16]:
        raise CheckFailed("key_id names another key")
    if not pinned:
        return Told(detail=f"by {outer['key_id']}: give --public-key to say whose that is")
    if public_key not in pinned:
        raise CheckFailed("signed by a key that is not the one given")
    return f"by {outer['key_id']}"


def _check_liabilities(document: Document) -> str:
    """Each tree from its leaves: order, amounts, sums, root."""
    trees = document.outer["liabilities"]
    if set(trees) != {line["asset"] for line in document.said["assets"]}:
        raise CheckFailed("trees of other assets than the statement's")
    count = 0
    for asset, leaves in trees.items():
        nodes = [_node(item) for item in leaves]
        if any(a[0] >= b[0] for a, b in pairwise(nodes)):
            raise CheckFailed(f"{asset}: leaves out of order, or one of them twice")
        _compare(asset, _root(nodes), len(nodes), document.owed(asset))
        count += len(nodes)
    return f"{count} leaves in {len(trees)} trees add up to what is owed"


def _check_inclusion(document: Document) -> str:
    """From the owner's own words to the root that everybody else sees."""
    leaves = document.outer["leaves"]
    if not isinstance(leaves, list) or not leaves:
        raise CheckFailed("no leaf")
    owners = {(leaf["brand"], leaf["player_id"]) for leaf in leaves}
    if len(owners) != 1:
        raise CheckFailed("leaves of several owners")
    if len({(leaf["asset"], leaf["kind"]) for leaf in leaves}) != len(leaves):
        raise CheckFailed("one claim twice")
    told = []
    for leaf in leaves:
        _members(leaf, _LEAF, "leaf")
        owed = document.owed(leaf["asset"])
        node = _climb(_leaf(leaf), leaf["place"], owed["leaves"], leaf["path"])
        _compare(leaf["asset"], node, owed["leaves"], owed)
        told.append(f"{leaf['amount_minor']} {leaf['asset']}")
    [(brand, player_id)] = owners
    return f"{brand}/{player_id or 'the brand itself'}: {', '.join(told)} (minor units)"


def _leaf(leaf: Mapping[str, Any]) -> Node:
    amount = _amount(leaf["amount_minor"])
    if not HASH.fullmatch(leaf["salt"]):
        raise CheckFailed("a salt of 32 bytes is required")
    fields = [leaf[name] for name in ("asset", "kind", "brand", "player_id")]
    if not all(isinstance(field, str) and "\n" not in field for field in fields):
        raise CheckFailed("a field of a leaf is one line of text")
    text = "\n".join(["cage-leaf/1", leaf["salt"], *fields, str(amount)])
    return hashlib.sha256(b"\x00" + text.encode("utf-8")).digest(), amount


def _climb(node: Node, place: object, count: object, path: object) -> Node:
    """RFC 9162 2.1.3.2, with sums."""
    if type(place) is not int or type(count) is not int or not 0 <= place < count < 1 << 40:
        raise CheckFailed("place: none of this tree")
    if not isinstance(path, list) or len(path) > 40:
        raise CheckFailed("path: a list is required")
    last = count - 1
    for item in path:
        if last == 0:
            raise CheckFailed("path: longer than the tree is high")
        sibling = _node(item)
        if place & 1 or place == last:
            node = _parent(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = _parent(node, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise CheckFailed("path: shorter than the tree is high")
    return node


def _root(nodes: list[Node]) -> Node:
    """By the definition (RFC 9162 2.1.1), level by level; a last one without a sibling goes up."""
    if not nodes:
        return hashlib.sha256(b"").digest(), 0
    while len(nodes) > 1:
        above = [_parent(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
        nodes = [*above, nodes[-1]] if len(nodes) % 2 else above
    return nodes[0]


def _parent(left: Node, right: Node) -> Node:
    total = left[1] + right[1]
    if total > SUM_MAX:
        raise CheckFailed("a sum is too large")
    content = left[1].to_bytes(32, "big") + left[0] + right[1].to_bytes(32, "big") + right[0]
    return hashlib.sha256(b"\x01" + content).digest(), total


def _node(item: object) -> Node:
    node = _members(item, "hash sum", "node")
    if not isinstance(node["hash"], str) or not HASH.fullmatch(node["hash"]):
        raise CheckFailed("hash: 64 hex digits are required")
    return bytes.fromhex(node["hash"]), _amount(node["sum"])


def _amount(value: object) -> int:
    """Above zero: less would pay for another's claim, and nothing hides how many there are."""
    if not isinstance(value, str) or not AMOUNT.fullmatch(value) or int(value) > SUM_MAX:
        raise CheckFailed("an amount above zero, of at most 128 bits, is required")
    return int(value)


def _compare(asset: str, root: Node, count: object, owed: Mapping[str, Any]) -> None:
    if root[0].hex() != owed["root"]:
        raise CheckFailed(f"{asset}: another root than the statement's")
    if str(root[1]) != owed["sum"] or count != owed["leaves"]:
        raise CheckFailed(f"{asset}: another sum or number of leaves than the statement's")


def _check_holdings(document: Document) -> str:
    """The lists are those that were signed; their sums are what is said to be on chain."""
    lists = document.outer["holdings"]
    networks = {line["network"]: line for line in document.said["networks"]}
    if set(lists) != set(networks):
        raise CheckFailed("holdings of other networks than the statement's")
    found: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for network, rows in lists.items():
        lines = []
        for row in rows:
            _members(row, "asset amount_minor address outpoint", "holding")
            if row["asset"].partition(":")[0] != network:
                raise CheckFailed(f"{network}: an asset of another network")
            place = _place(row)
            if (network, place) in seen:
                raise CheckFailed(f"{network}: {place} is counted twice")
            seen.add((network, place))
            found[row["asset"]] += _amount(row["amount_minor"])
            told = row["outpoint"] or "-"
            lines.append(f"{row['asset']} {row['amount_minor']} {row['address']} {told}\n")
        said = networks[network]["holdings"]
        digest = hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()
        if digest != said["sha256"] or len(rows) != said["count"]:
            raise CheckFailed(f"{network}: another list than the one that was signed")
    for line in document.said["assets"]:
        if found.pop(line["asset"], 0) != int(line["on_chain"]):
            raise CheckFailed(f"{line['asset']}: the list does not add up to what is on chain")
    if found:
        raise CheckFailed(f"{min(found)}: held, and not in the statement")
    return f"{len(seen)} holdings add up to what is on chain"


def _place(row: Mapping[str, Any]) -> str:
    """What a holding is counted by, however it is written: a coin, or an address of an account."""
    address, outpoint = row["address"], row["outpoint"]
    if reserves_keys.is_segwit(address) == (outpoint is None):
        raise CheckFailed(f"{address}: coins are listed one by one, accounts by address")
    return outpoint if outpoint is not None else f"{address.lower()} {row['asset']}"


def _check_coins(document: Document) -> str:
    """Each outpoint is an output of the tx of that id, and pays the address it is listed under."""
    txs = {
        (network, txid): deposit_proof_utxo.parse_tx(bytes.fromhex(raw))
        for network, found in document.outer["transactions"].items()
        for txid, raw in found.items()
    }
    for (_, txid), tx in txs.items():
        if deposit_proof_utxo.twice(tx.stripped)[::-1].hex() != txid:
            raise CheckFailed(f"{txid}: another tx")
    count = 0
    for network, rows in document.outer["holdings"].items():
        for row in rows:
            if row["outpoint"] is None:
                continue
            txid, _, vout = row["outpoint"].partition(":")
            if not VOUT.fullmatch(vout):
                raise CheckFailed(f"{row['outpoint']}: no outpoint")
            amount, script = txs[network, txid].outputs[int(vout)]
            if amount != int(row["amount_minor"]):
                raise CheckFailed(f"{row['outpoint']}: holds another amount")
            if not reserves_keys.is_paid(script, address=row["address"]):
                raise CheckFailed(f"{row['outpoint']}: does not pay {row['address']}")
            count += 1
    return f"{count} coins are outputs to their addresses"


def _check_sums(document: Document) -> str:
    """reserves and surplus follow from their parts."""
    told = []
    for line in document.said["assets"]:
        parts = {name: int(line[name]) for name in ("on_chain", "in_transit", "unposted")}
        reserves = parts["on_chain"] + parts["in_transit"] - parts["unposted"]
        if int(line["reserves"]) != reserves:
            raise CheckFailed(f"{line['asset']}: the reserves are not the sum of their parts")
        if int(line["surplus"]) != reserves - int(line["owed"]["sum"]):
            raise CheckFailed(f"{line['asset']}: the surplus is not reserves less what is owed")
        told.append(f"{line['asset']} {int(line['surplus']):+d}")
    return "surplus in minor units: " + ", ".join(told)


def _check_ownership(document: Document) -> str | Told:
    """Each address' own key over this statement, where there is one."""
    message = reserves_keys.message_of(document.outer["statement"])
    held = {(n, row["address"]) for n, rows in document.outer["holdings"].items() for row in rows}
    proven: set[tuple[str, str]] = set()
    for item in document.outer["ownership"]:
        _members(item, "network address signature code", "ownership")
        place = (item["network"], item["address"])
        if place not in held:
            raise CheckFailed(f"{item['address']}: holds nothing here")
        if item["signature"] is None:
            continue
        if not reserves_keys.is_signed(
            address=item["address"], signature=item["signature"], message=message
        ):
            raise CheckFailed(f"{item['address']}: its key did not sign this")
        proven.add(place)
    told = f"{len(proven)} of {len(held)} addresses signed with their own keys"
    return told if proven == held else Told(detail=told)


def _check_blocks(document: Document) -> Told:
    """Only a node can say what stands in a block."""
    blocks = [f"{n['network']} {n['height']} {n['block_hash']}" for n in document.said["networks"]]
    return Told(detail="as of " + ", ".join(blocks))


def _check_books(document: Document) -> Told:
    """What no hash covers: what was on its way, and what casinos promise beyond their funds."""
    told = []
    for line in document.said["assets"]:
        figures = {
            "in transit": line["in_transit"],
            "unposted": line["unposted"],
            "unexplained": line["unexplained"],
            "unfunded promises of casinos": line["owed"]["unfunded"],
            "receivable": line["receivable"],
        }
        told += [f"{line['asset']} {name} {v}" for name, v in figures.items() if v != "0"]
    return Told(detail=", ".join(told) or "nothing in transit, unexplained or unfunded")


def _check_coverage(document: Document) -> str | Told:
    """Whether what is owed is covered by what the lists prove, or only with figures beside them."""
    short, on_word = [], []
    for line in document.said["assets"]:
        asset, surplus = line["asset"], int(line["surplus"])
        told = max(0, int(line["in_transit"])) + max(0, -int(line["unposted"]))
        if surplus < 0:
            short.append(f"{asset} {-surplus}")
        elif surplus < told:
            on_word.append(f"{asset} {told - surplus}")
    if on_word:
        return Told(detail=f"covered only by what is said to be on its way: {', '.join(on_word)}")
    if short:
        return f"missing in minor units: {', '.join(short)}"
    return "what is on chain covers what is owed"


def _read(content: bytes) -> Document:
    outer = proof_document.read(content, bytes_max=DOCUMENT_BYTES_MAX)
    kind = outer.get("format")
    if not isinstance(kind, str) or kind not in _OUTER:
        raise CheckFailed(f"not {BUNDLE} or {INCLUSION}")
    _members(outer, _OUTER[kind], "the document")
    for name in ("statement", "key_id", "public_key", "signature"):
        if not isinstance(outer[name], str):
            raise CheckFailed(f"{name}: text is required")
    head, _, text = outer["statement"].partition("\n")
    if head != VERSION or not text.isascii():
        raise CheckFailed(f"the statement is not {VERSION}")
    said = proof_document.read(text.encode("ascii"), bytes_max=DOCUMENT_BYTES_MAX)
    _members(said, "proof livemode made_at previous networks assets reports", "the statement")
    try:
        _check_statement(said)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckFailed("the statement is not readable") from error
    return Document(outer=outer, said=said)


def _check_statement(said: Mapping[str, Any]) -> None:
    assets = [_members(line, _ASSET, "an asset") for line in said["assets"]]
    for line in assets:
        owed = _members(line["owed"], "leaves root sum unfunded", "owed")
        figures = [owed["sum"], owed["unfunded"]]
        figures += [
            line[n] for n in _ASSET.split() if n not in ("asset", "caip19", "decimals", "owed")
        ]
        if not all(isinstance(figure, str) and TOTAL.fullmatch(figure) for figure in figures):
            raise CheckFailed(f"{line['asset']}: a figure is no whole number")
    for line in said["networks"]:
        _members(line, "network caip2 height block_hash holdings", "a network")
        _members(line["holdings"], "count sha256", "holdings")
    for lines, name in ((assets, "asset"), (said["networks"], "network")):
        if len({line[name] for line in lines}) != len(lines):
            raise CheckFailed(f"one {name} twice in the statement")


def _members(value: object, names: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names.split()):
        raise CheckFailed(f"{what}: not the members of this format")
    return value
