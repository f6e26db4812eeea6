"""Columns of many values as one text, for statements that ask about all of a run of blocks.

The driver asks several abstract classes about each element of an array, which for the inputs of a
block took longer than anything else that was said to the database. `string_to_array` is cheap.
"""

from collections.abc import Iterable, Mapping, Sequence

from watchers.chain import Block

SEPARATOR = " "

Spend = tuple[str, int, str, int]
"""Txid and vout of an outpoint, the tx that spends it, the height of that one's block."""


def column(values: Iterable[str | int]) -> str:
    """Hashes, keys or numbers as one text, which `string_to_array(..., ' ')` takes apart again.

    ValueError for a value that holds a separator or is empty: it would be read as something else.
    """
    texts = list(map(str, values))
    joined = SEPARATOR.join(texts)
    if joined.count(SEPARATOR) != max(len(texts) - 1, 0) or "" in texts:
        raise ValueError("a value of a column is empty or holds a space")
    return joined


def spends_of(blocks: Sequence[Block]) -> list[Spend]:
    """Every input of a run of blocks."""
    return [
        (spend.outpoint.txid, spend.outpoint.vout, spend.txid, block.ref.height)
        for block in blocks
        for spend in block.spends
    ]


def hashes_of(blocks: Sequence[Block]) -> dict[int, str]:
    """The hashes of a run of blocks by their heights."""
    return {block.ref.height: block.ref.hash for block in blocks}


def spend_columns(spends: Sequence[Spend], blocks: Mapping[int, str]) -> dict[str, object]:
    """Parameters of a statement about spends and their blocks (hashes by height)."""
    return {
        "heights": list(blocks),
        "hashes": list(blocks.values()),
        "txids": column(spend[0] for spend in spends),
        "vouts": column(spend[1] for spend in spends),
        "spenders": column(spend[2] for spend in spends),
        "at_heights": column(spend[3] for spend in spends),
    }
