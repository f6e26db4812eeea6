"""The watcher's part of `cage bench`: one block after the other, in a process of its own.

`python -m watchers.bench match|credit --config FILE` prints one JSON line: seconds of each block,
and the most memory that the process held. A block is made in memory; what is timed is everything
from there to the last commit. It must only be pointed at a database that is thrown away.
"""

import argparse
import asyncio
import json
import resource
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from config.clock import Clock, SystemClock
from config.database import Database, Uow, async_url
from config.ids import SystemIds
from config.registry import load_registry
from config.settings import load_settings
from watchers import address_store, deposit_due, effects
from watchers.address_filter import AddressFilter
from watchers.chain import Block, BlockRef, Outpoint, Spend, Transfer
from watchers.network import Network

NETWORK, ASSET = "btc", "btc:BTC"
POOL_SIZE = 2
AMOUNT_MINOR = 1_000_000  # 0.01 BTC: playable at one confirmation
MATCH_BLOCKS, MATCH_WARM = 12, 3  # the first ones fill caches and are not reported
MATCH_TXS, MATCH_OUTPUTS, MATCH_OURS = 3_000, 10_000, 20
CREDIT_BLOCKS, CREDIT_DEPOSITS = 4, 2_000
START_HEIGHT = 1_000
RAW_BYTES = 225  # a common tx


def _digest(*parts: object) -> str:
    return sha256("/".join(str(part) for part in parts).encode()).hexdigest()


def _block(height: int, keys: Sequence[str], outputs: int, txs: int) -> Block:
    """A block whose first outputs pay `keys`; the others pay strangers."""
    txids = [_digest("tx", height, number) for number in range(txs)]
    transfers = [
        Transfer(
            txid=txids[number % txs],
            position=f"out:{number // txs}",
            asset=ASSET,
            to_key=keys[number] if number < len(keys) else "0014" + _digest(height, number)[:40],
            amount_minor=AMOUNT_MINOR,
        )
        for number in range(outputs)
    ]
    spends = [
        Spend(txid=txid, outpoint=Outpoint(txid=_digest("coin", txid), vout=0)) for txid in txids
    ]
    return Block(
        ref=BlockRef(
            height=height,
            hash=_digest("block", height),
            parent_hash=_digest("block", height - 1),
            time_seconds=0,
        ),
        transfers=tuple(transfers),
        spends=tuple(spends),
        sends=(),
        txids=tuple(txids),
        raw_txs={txid: bytes(RAW_BYTES) for txid in txids},
    )


async def _apply(
    database: Database, network: Network, known: AddressFilter, block: Block, clock: Clock
) -> float:
    """Seconds from the block in hand to the last commit."""
    start_seconds = clock.monotonic_seconds()
    height, at = block.ref.height, clock.now()

    async def connect(uow: Uow) -> None:
        await effects.connect(uow, network, known, [block], finalised_height=None, at=at)

    await database.run(connect)
    tip = deposit_due.Tip(height=height, final_below=height)
    after: UUID | None = deposit_due.FIRST
    while after is not None:
        page = after

        async def settle(uow: Uow, page: UUID = page) -> UUID | None:
            return await deposit_due.settle_rest(uow, network, tip, after=page, at=at)

        after = await database.run(settle)
    return clock.monotonic_seconds() - start_seconds


async def run(kind: str, config: Path) -> dict[str, object]:
    """Seconds per block: `match` pays a few own addresses among many, `credit` own ones only."""
    registry = load_registry(load_settings(config))
    clock = SystemClock()
    network = Network(
        spec=registry.chains[NETWORK],
        assets=registry.assets,
        ids=SystemIds(clock),
        reversed_per_step_max=registry.policy.limits.deposits_reversed_per_step_max,
        reference=registry.policy.reference,
    )
    settings = registry.settings
    database = Database(async_url(settings.role_url("watchers")), pool_size=POOL_SIZE)
    try:
        known = AddressFilter(NETWORK)
        start_seconds = clock.monotonic_seconds()
        await known.load(database)
        loaded_seconds = clock.monotonic_seconds() - start_seconds
        wanted = MATCH_OURS if kind == "match" else CREDIT_DEPOSITS
        async with database.unit_of_work() as uow:
            keys = await address_store.issued_keys(uow, network=NETWORK, limit=wanted)
        seconds = []
        for number in range(MATCH_BLOCKS if kind == "match" else CREDIT_BLOCKS):
            height = START_HEIGHT + 10 * number
            if kind == "match":
                block = _block(height, keys, MATCH_OUTPUTS, MATCH_TXS)
            else:
                block = _block(height, keys, len(keys), len(keys))
            seconds.append(await _apply(database, network, known, block, clock))
    finally:
        await database.close()
    return {
        "addresses": known.count,
        "loaded_seconds": loaded_seconds,
        "seconds": seconds[MATCH_WARM:] if kind == "match" else seconds[1:],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # KiB on Linux
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m watchers.bench")
    parser.add_argument("kind", choices=["match", "credit"])
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.kind, arguments.config))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
