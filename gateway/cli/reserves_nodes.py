"""Asks a reader's own node whether a proof of reserves tells the truth about a block.

Owns nothing of the proof's arithmetic (`reserves_proof`): only what a node alone can say. The node
is the reader's; whatever it cannot say any more stays `told`.
"""

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from config.assets import AssetSpec
from config.chains import ChainSpec, Family, load_chains
from config.clock import Clock
from config.errors import ConfigError
from config.settings import NetworkSettings, Settings
from gateway.cli.console import USAGE, CliError
from gateway.cli.deposit_proof import Check, Status
from watchers.chain import Chain, Outpoint
from watchers.errors import NodeError
from watchers.registry import build_chain

KEYS_PER_CALL = 200  # as a watcher asks
TRIES = 3  # a block may come between a tip and its coins


async def ask(document: Mapping[str, Any], network: str, url: str, *, clock: Clock) -> Check:
    """One line about one network: its block, and what stands at it."""
    name = f"node {network}"
    said = next((n for n in document["said"]["networks"] if n["network"] == network), None)
    if said is None:
        raise CliError(f"the proof has no network {network}", code=USAGE)
    spec = chain_of(network, said["caip2"], is_live=document["said"]["livemode"])
    chain = build_chain(spec, [url], _assets(document["said"]["assets"], network), clock=clock)
    try:
        await chain.reader.check_identity()
        ref = await chain.reader.ref_at(said["height"])
        if ref is None or ref.hash != said["block_hash"]:
            return _check(name, Status.FAILED, f"no block {said['block_hash']} at its height")
        rows = document["holdings"][network]
        if spec.family is Family.BITCOIN:
            return await _coins(chain, name, rows, said)
        return await _balances(chain, name, rows, said)
    except NodeError as error:
        return _check(name, Status.TOLD, f"the node cannot say: {error}")
    finally:
        await chain.close()


def chain_of(network: str, caip2: str, *, is_live: bool) -> ChainSpec:
    """The chain that the program knows by this CAIP-2 id. Raises CliError."""
    text = resources.files("config").joinpath("chains.toml").read_text("utf-8")
    facts = tomllib.loads(text).get(network, {})
    variants = [name for name, value in facts.items() if isinstance(value, dict)]
    tried = [NetworkSettings(chain=name) for name in variants]
    kind, _, number = caip2.partition(":")
    if not tried and kind == "eip155" and number.isascii() and number.isdigit():
        tried = [
            NetworkSettings(chain="main", family="evm", evm_chain_id=int(number), is_live=is_live)
        ]
    for settings in tried:
        try:
            spec = load_chains(Settings(livemode=is_live, networks={network: settings}))[network]
        except ConfigError:
            continue
        if spec.caip2 == caip2:
            return spec
    raise CliError(f"{network}: {caip2} is no chain that this program knows")


async def _coins(
    chain: Chain, name: str, rows: Sequence[Mapping[str, Any]], said: Mapping[str, Any]
) -> Check:
    """Exact while the block is the tip; later a spent coin looks like one that never was."""
    wanted = {_outpoint(row["outpoint"]): int(row["amount_minor"]) for row in rows}
    for _ in range(TRIES):
        tip = await chain.reader.tip()
        try:
            found = await chain.reader.open_coins(list(wanted), block_hash=tip.hash)
        except NodeError:
            continue
        wrong = [f"{o.txid}:{o.vout}" for o, amount in found.items() if amount != wanted[o]]
        if wrong:
            return _check(name, Status.FAILED, f"{wrong[0]} holds another amount")
        is_exact = tip.hash == said["block_hash"]
        if len(found) == len(wanted):
            return _check(name, Status.PROVEN, f"all {len(wanted)} coins are unspent")
        told = f"{len(found)} of {len(wanted)} coins are unspent"
        if is_exact:
            return _check(name, Status.FAILED, f"{told} at the proof's own block")
        return _check(name, Status.TOLD, f"{told} {tip.height - said['height']} blocks later")
    return _check(name, Status.TOLD, "the tip moved during every look: ask again")


async def _balances(
    chain: Chain, name: str, rows: Sequence[Mapping[str, Any]], said: Mapping[str, Any]
) -> Check:
    """At the very block, as far back as the node keeps the state."""
    by_asset: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        key = chain.codec.parse(row["address"]).key
        by_asset[row["asset"]][key] = int(row["amount_minor"])
    for asset, wanted in by_asset.items():
        keys = list(wanted)
        for start in range(0, len(keys), KEYS_PER_CALL):
            part = keys[start : start + KEYS_PER_CALL]
            found = await chain.reader.holdings(part, asset, block_hash=said["block_hash"])
            wrong = [key for key in part if found[key] != wanted[key]]
            if wrong:
                detail = f"{wrong[0]} held {found[wrong[0]]} {asset}, not {wanted[wrong[0]]}"
                return _check(name, Status.FAILED, detail)
    return _check(name, Status.PROVEN, f"all {len(rows)} balances stood at the block")


def _assets(lines: Sequence[Mapping[str, Any]], network: str) -> list[AssetSpec]:
    """The proof's own words for each asset: contract and decimals are in the statement."""
    return [
        AssetSpec(
            id=line["asset"],
            network=network,
            symbol=line["asset"].partition(":")[2],
            decimals=line["decimals"],
            contract=_contract(line["caip19"]),
            caip19=line["caip19"],
            dust_minor=0,
            minimum_deposit_minor=0,
            minimum_withdrawal_minor=0,
            tiers=(),
        )
        for line in lines
        if line["asset"].partition(":")[0] == network and line["caip19"] is not None
    ]


def _contract(caip19: str) -> str | None:
    kind, _, reference = caip19.partition("/")[2].partition(":")
    return reference.lower() if kind == "erc20" else None


def _outpoint(text: str) -> Outpoint:
    txid, _, vout = text.partition(":")
    return Outpoint(txid=txid, vout=int(vout))


def _check(name: str, status: Status, detail: str) -> Check:
    return Check(name=name, status=status, detail=detail)
