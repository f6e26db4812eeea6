"""Own txs that wait in mempools and depend on each other, as miners weigh them.

Pure, UTXO chains. A tx is mined with its unmined ancestors, so it pays what the best package with
it pays. Of a family one signed attempt counts, the one that its members ride on or else the newest;
unsigned ones are noted as work begun.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from uuid import UUID

from gateway.payouts.bump_policy import PACKAGE_MAX_VB, PACKAGE_TXS_MAX, TX_MAX_VB
from watchers.chain import Coin
from watchers.outgoing_families import OpenTx


class Packages:
    """The graph of what is open. `size_of` gives virtual bytes, `current` are the attempts that
    withdrawals ride on."""

    def __init__(
        self,
        txs: Sequence[OpenTx],
        *,
        size_of: Callable[[OpenTx], int],
        current: Collection[UUID] = (),
    ) -> None:
        self._size_of = size_of
        found: dict[UUID, OpenTx] = {}
        for tx in txs:  # of a family the newest is last
            before = found.get(tx.family_id)
            if tx.txid is not None and (before is None or before.id not in current):
                found[tx.family_id] = tx
        self.signed = {tx.id: tx for tx in found.values()}
        self._by_txid = {tx.txid: tx for tx in found.values()}
        self._children: dict[str, list[OpenTx]] = {}
        self._built = [tx for tx in txs if tx.txid is None]
        for tx in found.values():
            for txid in tx.parents:
                self._children.setdefault(txid, []).append(tx)

    def ancestors(self, tx: OpenTx) -> list[OpenTx]:
        """Own unmined txs that it depends on, oldest first."""
        found: dict[UUID, OpenTx] = {}
        look = [tx]
        while look:
            for txid in look.pop().parents:
                parent = self._by_txid.get(txid)
                if parent is not None and parent.id not in found:
                    found[parent.id] = parent
                    look.append(parent)
        return sorted(found.values(), key=lambda item: item.id)

    def descendants(self, tx: OpenTx) -> list[OpenTx]:
        """Own signed unmined txs that depend on it, oldest first."""
        found: dict[UUID, OpenTx] = {}
        look = [tx]
        while look:
            for child in self._children.get(look.pop().txid or "", []):
                if child.id not in found:
                    found[child.id] = child
                    look.append(child)
        return sorted(found.values(), key=lambda item: item.id)

    def is_in_work(self, tx: OpenTx) -> bool:
        """Whether something unsigned continues it, pays for it, or spends what descends from it."""
        package = [tx, *self.descendants(tx)]
        txids = {item.txid for item in package}
        families = {item.family_id for item in package}
        return any(built.family_id in families or built.parents & txids for built in self._built)

    def rate(self, tx: OpenTx) -> int:
        """Sat per kvB of the best package that it is in, rounded down."""
        found = []
        for item in (tx, *self.descendants(tx)):
            size, fee = self.weight([item, *self.ancestors(item)])
            found.append(fee * 1_000 // size)
        return max(found)

    def weight(self, txs: Iterable[OpenTx]) -> tuple[int, int]:
        """(virtual bytes, satoshi) together."""
        chosen = list(txs)
        return sum(self._size_of(tx) for tx in chosen), sum(tx.fee_minor for tx in chosen)

    def within_limits(self, coins: Iterable[Coin]) -> list[Coin]:
        """Of change that is in no block the first ones that one tx may spend together, and a child
        of it after that, so that nodes take both (P31, P32). What is planned and not signed counts:
        it is sent before."""
        found: list[Coin] = []
        taken: dict[UUID, OpenTx] = {}
        for coin in coins:
            tx = self._by_txid.get(coin.outpoint.txid)
            if tx is None:
                continue
            above = {item.id: item for item in (tx, *self.ancestors(tx))}
            union = taken | above
            if len(union) + 2 <= PACKAGE_TXS_MAX and self._is_light(union.values()):
                below = (self._below(item) for item in above.values())
                if all(len(txs) + 2 <= PACKAGE_TXS_MAX and self._is_light(txs) for txs in below):
                    found.append(coin)
                    taken = union
        return found

    def _below(self, tx: OpenTx) -> list[OpenTx]:
        """It, its descendants, and what is built on any of them; a replacement adds none."""
        signed = [tx, *self.descendants(tx)]
        txids = {item.txid for item in signed}
        built = [item for item in self._built if item.replaces_id is None and item.parents & txids]
        return [*signed, *built]

    def _is_light(self, txs: Iterable[OpenTx]) -> bool:
        return self.weight(txs)[0] + TX_MAX_VB <= PACKAGE_MAX_VB

    def has_room(self, leaf: OpenTx) -> bool:
        """Whether nodes take one more child of it (P31, P32)."""
        above = self.ancestors(leaf)
        if len(above) + 2 > PACKAGE_TXS_MAX:
            return False
        return all(len(self.descendants(tx)) + 2 <= PACKAGE_TXS_MAX for tx in (leaf, *above))
