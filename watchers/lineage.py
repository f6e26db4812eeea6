"""Which outpoints a tx needs: its own inputs and those of its ancestors, as far as they are known.

Pure. A tx is impossible as soon as another tx spends an outpoint that it or an unconfirmed
ancestor spends (D13). The ancestors looked for are those of one mempool or one block.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from watchers.chain import Outpoint, Spend

ANCESTORS_MAX = 100  # nodes keep chains of at most 25; in a block they may be longer

SpendsByTx = Mapping[str, Sequence[Outpoint]]
"""What each tx spends."""


def spends_by_tx(spends: Iterable[Spend]) -> dict[str, list[Outpoint]]:
    """The outpoints of each spending tx."""
    found: dict[str, list[Outpoint]] = {}
    for spend in spends:
        found.setdefault(spend.txid, []).append(spend.outpoint)
    return found


def needed_inputs(txids: Collection[str], spends: SpendsByTx) -> list[tuple[str, int, str, str]]:
    """(outpoint txid, vout, the tx that needs it, the tx that spends it), each need once.

    Of ancestors that spend one outpoint, which no honest mempool has, the nearest counts.
    """
    needs: dict[tuple[str, int, str], str] = {}
    for txid in sorted(txids):
        for spender in lineage(txid, spends):
            for outpoint in spends[spender]:
                needs.setdefault((outpoint.txid, outpoint.vout, txid), spender)
    return [(*need, spender) for need, spender in needs.items()]


def lineage(txid: str, spends: SpendsByTx) -> list[str]:
    """The tx and its ancestors among `spends`, nearest first; none when it is not there."""
    if txid not in spends:
        return []
    found = {txid: None}
    waiting = [txid]
    while waiting and len(found) <= ANCESTORS_MAX:
        for outpoint in spends[waiting.pop(0)]:
            parent = outpoint.txid
            if parent in spends and parent not in found:
                found[parent] = None
                waiting.append(parent)
    return list(found)
