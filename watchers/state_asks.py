"""Questions to one node about state at a block, answered as values that nodes can be compared by.

Mappings become tuples in the order of what was asked. Who is asked is the business of `quorum`.
"""

from collections.abc import Sequence

from watchers.chain import AccountState, ChainReader, Outpoint


async def holdings(
    reader: ChainReader, *, keys: Sequence[str], asset: str, block_hash: str
) -> tuple[tuple[str, int], ...]:
    return tuple((await reader.holdings(keys, asset, block_hash=block_hash)).items())


async def account_states(
    reader: ChainReader, *, keys: Sequence[str], block_hash: str
) -> tuple[tuple[str, AccountState], ...]:
    return tuple((await reader.account_states(keys, block_hash=block_hash)).items())


async def open_coins(
    reader: ChainReader, *, outpoints: Sequence[Outpoint], block_hash: str
) -> tuple[tuple[Outpoint, int], ...]:
    return tuple((await reader.open_coins(outpoints, block_hash=block_hash)).items())
