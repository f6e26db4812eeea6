"""Where a follower begins, and how what it fetched is cut into units of work (ADR 0017).

Pure but for the headers that it asks for; it writes nothing.
"""

from collections.abc import Iterator, Sequence

from watchers.address_filter import AddressFilter
from watchers.chain import Block, BlockRef, ChainReader
from watchers.errors import NodeUnavailable
from watchers.token_checks import Look

PAYMENTS_MAX = 500  # transfers that may be ours in a run: half a page of `deposit_due`


def within_payments(blocks: Sequence[Block], known: AddressFilter) -> Iterator[Sequence[Block]]:
    """Parts that pay us little enough for one unit of work; one block alone may be more."""
    if len(blocks) == 1:
        yield blocks
        return
    part: list[Block] = []
    payments = 0
    for block in blocks:
        paid = len(known.candidates(item.to_key for item in block.transfers))
        if part and payments + paid > PAYMENTS_MAX:
            yield part
            part, payments = [], 0
        part.append(block)
        payments += paid
    yield part


def until_findings(looks: Sequence[Look]) -> Iterator[Sequence[Look]]:
    """Parts, each of which ends with the run or with a block in which something contradicts: its
    breaker is to stop the credits of the next one."""
    part: list[Look] = []
    for look in looks:
        part.append(look)
        if look.findings:
            yield part
            part = []
    if part:
        yield part


async def first_block(reader: ChainReader, *, tip: BlockRef, start_height: int | None) -> BlockRef:
    """Where a network that was never followed begins. Raises NodeUnavailable."""
    if start_height is None or start_height >= tip.height:
        return tip
    ref = await reader.ref_at(start_height)
    if ref is None:
        raise NodeUnavailable(f"no header at start height {start_height}")
    return ref


async def history(reader: ChainReader, first: BlockRef, *, limit_blocks: int) -> list[BlockRef]:
    """Headers below the first block, so that a reorg of the very first one can be walked.

    They are stored with it: headers of a first start that died would bar those of the next.
    """
    found: list[BlockRef] = []
    below = first
    lowest = max(0, first.height - limit_blocks)
    for height in range(first.height - 1, lowest - 1, -1):
        ref = await reader.ref_at(height)
        if ref is None or ref.hash != below.parent_hash:
            raise NodeUnavailable(f"header {height} is not the parent of the next one")
        found.append(ref)
        below = ref
    return found
