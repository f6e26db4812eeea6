"""`cage deposits verify`: checks a deposit proof from its own bytes, with nothing else at hand.

Owns the reading of the bundle (docs/integration/deposit-proofs.md) and the order of the checks. It
shares no code with the builder: a verifier that does shares its bugs (HOUSE 9). It reads no
configuration, no database and no node, and believes nothing that a hash does not cover; what rests
on the operator's word is `told`, never `proven`. Input is hostile: bounded and strictly typed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from gateway.cli import proof_document
from gateway.cli.deposit_proof_errors import CheckFailed

FORMAT = "cage-deposit-proof/1"
BUNDLE_BYTES_MAX = 16 << 20  # a block of 4 MB weight that is one tx, as hex, with its coinbase
ITEMS_MAX = 2_000  # headers or nodes in one list
HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
MINOR = re.compile(r"[1-9][0-9]{0,77}", re.ASCII)  # below 10^78, as the ledger's columns

T = TypeVar("T")


class Status(StrEnum):
    """The outcome of a check."""

    PROVEN = "proven"
    """Recomputed from the bundle's bytes."""
    TOLD = "told"
    """The operator's word; no hash of the bundle covers it."""
    FAILED = "failed"
    """The bundle contradicts itself, or is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the verdict."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a check returns where it can only repeat the operator's word."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle by its fields; hex is bytes, nothing is verified yet."""

    family: str
    caip2: str
    genesis_hash: str | None
    chain_id: int | None
    txid: str
    position: str
    caip19: str | None
    contract: str | None
    amount: str
    amount_minor: int
    decimals: int | None
    address: str
    key: str
    block_hash: str
    height: int
    index: int
    raw_tx: bytes
    branch: tuple[bytes, ...]
    coinbase: bytes | None
    coinbase_branch: tuple[bytes, ...] | None
    receipt: bytes | None
    receipt_branch: tuple[bytes, ...] | None
    headers: tuple[bytes, ...]
    agreed: int | None
    nodes: int | None
    rests_on: str
    confirmations: int
    full_confirmations: int
    finalised_height: int | None
    is_reached: bool


CheckStep = tuple[str, Callable[[Bundle], str | Told]]


def verify(content: bytes) -> list[Check]:
    """Every check of a bundle in order; never raises, whatever the bytes are."""
    try:
        document = proof_document.read(content, bytes_max=BUNDLE_BYTES_MAX)
        bundle = _bundle(document)
    except CheckFailed as error:
        return [Check(name="format", status=Status.FAILED, detail=str(error))]
    found = [Check(name="format", status=Status.PROVEN, detail=FORMAT)]
    steps: list[CheckStep] = [("digest", lambda _: _check_digest(document)), *_steps(bundle)]
    return found + [_run(name, step, bundle) for name, step in steps]


def is_verified(checks: list[Check]) -> bool:
    """Whether no check failed and there is a proof at all."""
    return len(checks) > 1 and all(item.status is not Status.FAILED for item in checks)


def _run(name: str, step: Callable[[Bundle], str | Told], bundle: Bundle) -> Check:
    try:
        result = step(bundle)
    except CheckFailed as error:
        return Check(name=name, status=Status.FAILED, detail=str(error))
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
        return Check(
            name=name, status=Status.FAILED, detail=f"not readable: {type(error).__name__}"
        )
    if isinstance(result, Told):
        return Check(name=name, status=Status.TOLD, detail=result.detail)
    return Check(name=name, status=Status.PROVEN, detail=result)


def _steps(bundle: Bundle) -> list[CheckStep]:
    """The family's own checks between those of every bundle."""
    if bundle.family == "bitcoin":
        from gateway.cli import deposit_proof_utxo

        own = deposit_proof_utxo.STEPS
    else:
        from gateway.cli import deposit_proof_evm

        own = deposit_proof_evm.STEPS
    return [
        *own,
        ("finality", _check_finality),
        ("agreement", _check_agreement),
    ]


def _check_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 over the rest as canonical JSON: sorted keys, no spaces, ASCII."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    found = "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
    if document["digest"] != found:
        raise CheckFailed("the bundle was altered after it was made")
    return found


def shown_amount(bundle: Bundle) -> str:
    """The amount as people read it, by the bundle's own decimals. Raises CheckFailed when it is
    not `amount_minor`; what covers the decimals is for the family to say."""
    if bundle.decimals is None:
        if bundle.amount != str(bundle.amount_minor):
            raise CheckFailed("amount and amount_minor differ")
        return f"{bundle.amount_minor} minor units; the asset is not listed"
    digits = str(bundle.amount_minor).rjust(bundle.decimals + 1, "0")
    whole, part = digits[: len(digits) - bundle.decimals], digits[len(digits) - bundle.decimals :]
    if bundle.amount != (f"{whole}.{part}".rstrip("0").rstrip(".") if part else whole):
        raise CheckFailed("amount, amount_minor and decimals do not fit")
    return f"{bundle.amount} ({bundle.amount_minor} minor units)"


def _check_finality(bundle: Bundle) -> str | Told:
    depth = len(bundle.headers)
    if bundle.confirmations != depth:
        raise CheckFailed(f"{depth} headers do not make {bundle.confirmations} confirmations")
    is_deep = depth >= bundle.full_confirmations
    tag = bundle.finalised_height
    if bundle.rests_on == "depth":
        if tag is not None or bundle.is_reached != is_deep:
            raise CheckFailed("what is claimed of finality does not follow from the headers")
        state = "reached" if is_deep else "not reached"
        return f"{depth} of {bundle.full_confirmations} blocks in this bundle: {state}"
    is_tagged = tag is None or tag >= bundle.height
    if bundle.is_reached != (is_deep and is_tagged):
        raise CheckFailed("what is claimed of finality does not follow from headers and tag")
    word = "nothing" if tag is None else f"block {tag}"
    return Told(detail=f"{depth} headers; the operator's nodes call {word} finalised")


def _check_agreement(bundle: Bundle) -> str | Told:
    if bundle.agreed is None or bundle.nodes is None:
        return Told(detail="not recorded")
    if not 0 < bundle.agreed <= bundle.nodes:
        raise CheckFailed(f"{bundle.agreed} of {bundle.nodes} nodes is no agreement")
    return Told(detail=f"{bundle.agreed} of {bundle.nodes} nodes of the operator agreed")


_SHAPE: Mapping[str, frozenset[str]] = {
    "": frozenset(
        "format network deposit block inclusion headers agreement finality claim digest".split()
    ),
    "network": frozenset("name family caip2 genesis_hash chain_id".split()),
    "deposit": frozenset(
        "id txid position asset caip19 contract amount amount_minor decimals address key".split()
    ),
    "block": frozenset(("hash", "height")),
    "inclusion": frozenset(
        "index raw_tx branch coinbase coinbase_branch receipt receipt_branch".split()
    ),
    "agreement": frozenset(("agreed", "nodes")),
    "finality": frozenset(
        "rests_on confirmations full_confirmations finalised_height is_reached".split()
    ),
    "claim": frozenset(("address", "key")),
}


def _part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document if not name else document[name]
    if not isinstance(value, dict) or value.keys() != _SHAPE[name]:
        raise CheckFailed(f"{name or 'the bundle'}: not the members of this format")
    return value


def _bundle(document: dict[str, Any]) -> Bundle:
    _part(document, "")
    if document["format"] != FORMAT:
        raise CheckFailed(f"not {FORMAT}")
    _typed(document, "digest", str)
    network, deposit = _part(document, "network"), _part(document, "deposit")
    block, inclusion = _part(document, "block"), _part(document, "inclusion")
    finality, claim = _part(document, "finality"), _part(document, "claim")
    agreement = None if document["agreement"] is None else _part(document, "agreement")
    _typed(network, "name", str)
    for name in ("id", "asset"):
        _typed(deposit, name, str)
    if claim != {"address": deposit["address"], "key": deposit["key"]}:
        raise CheckFailed("claim: not the address and key of the deposit")
    minor = _typed(deposit, "amount_minor", str)
    if not MINOR.fullmatch(minor):
        raise CheckFailed("amount_minor: a positive whole number is required")
    decimals = _optional(deposit, "decimals", int)
    if decimals is not None and decimals > 77:
        raise CheckFailed("decimals: too many")
    return Bundle(
        family=_one_of(network, "family", ("bitcoin", "evm")),
        caip2=_typed(network, "caip2", str),
        genesis_hash=_optional(network, "genesis_hash", str),
        chain_id=_optional(network, "chain_id", int),
        txid=_typed(deposit, "txid", str),
        position=_typed(deposit, "position", str),
        caip19=_optional(deposit, "caip19", str),
        contract=_optional(deposit, "contract", str),
        amount=_typed(deposit, "amount", str),
        amount_minor=int(minor),
        decimals=decimals,
        address=_typed(deposit, "address", str),
        key=_typed(deposit, "key", str),
        block_hash=_typed(block, "hash", str),
        height=_typed(block, "height", int),
        index=_typed(inclusion, "index", int),
        raw_tx=_bytes(inclusion, "raw_tx"),
        branch=_list(inclusion, "branch"),
        coinbase=_none_or(inclusion, "coinbase", _bytes),
        coinbase_branch=_none_or(inclusion, "coinbase_branch", _list),
        receipt=_none_or(inclusion, "receipt", _bytes),
        receipt_branch=_none_or(inclusion, "receipt_branch", _list),
        headers=_list(document, "headers"),
        agreed=None if agreement is None else _typed(agreement, "agreed", int),
        nodes=None if agreement is None else _typed(agreement, "nodes", int),
        rests_on=_one_of(finality, "rests_on", ("depth", "finalized_tag")),
        confirmations=_typed(finality, "confirmations", int),
        full_confirmations=_typed(finality, "full_confirmations", int),
        finalised_height=_optional(finality, "finalised_height", int),
        is_reached=_typed(finality, "is_reached", bool),
    )


def _typed(part: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = part[name]
    if type(value) is not kind:
        raise CheckFailed(f"{name}: another type is required")
    if isinstance(value, int) and not 0 <= value < 1 << 63:
        raise CheckFailed(f"{name}: out of range")
    return value


def _optional(part: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    return None if part[name] is None else _typed(part, name, kind)


def _one_of(part: Mapping[str, Any], name: str, words: tuple[str, ...]) -> str:
    value = _typed(part, name, str)
    if value not in words:
        raise CheckFailed(f"{name}: one of {', '.join(words)} is required")
    return value


def _bytes(part: Mapping[str, Any], name: str) -> bytes:
    return _hex(part[name], name)


def _list(part: Mapping[str, Any], name: str) -> tuple[bytes, ...]:
    value = part[name]
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        raise CheckFailed(f"{name}: a list is required")
    return tuple(_hex(item, name) for item in value)


def _none_or(
    part: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any], str], T]
) -> T | None:
    return None if part[name] is None else read(part, name)


def _hex(value: object, name: str) -> bytes:
    if not isinstance(value, str) or not HEX.fullmatch(value):
        raise CheckFailed(f"{name}: lower-case hex is required")
    return bytes.fromhex(value)
