"""Transfers matched to own addresses, and the depths that they need together (D75).

Pure: it reads no row and no node. A receiver who splits a value over many outputs of one tx or one
block waits as long as for one output of the sum.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from config.assets import AssetSpec
from config.credit_policy import CONFIGURED, CreditPolicy
from watchers.addresses import AddressRow
from watchers.chain import Transfer
from watchers.network import Depths, Network

Match = tuple[Transfer, AddressRow, AssetSpec]
"""A transfer to an own address, of a listed asset."""

_Receiver = tuple[str, str | None, str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The credit policy in force, and the groups of the players that have one."""

    policy: CreditPolicy = CONFIGURED
    groups: Mapping[tuple[str, str], str] = field(default_factory=dict)


class TxDepths:
    """Depths by the sum per (brand, player, asset): over the whole block, which no tx of it
    exceeds, or over each tx of a mempool, whose txs may end in different blocks."""

    def __init__(
        self,
        network: Network,
        matches: Sequence[Match],
        terms: Terms | None = None,
        *,
        in_block: bool,
    ) -> None:
        self._network = network
        self._terms = terms or Terms()
        self._in_block = in_block
        self._sums: Counter[_Receiver] = Counter()
        for match in matches:
            self._sums[self._receiver(match)] += match[0].amount_minor

    def of(self, match: Match) -> Depths:
        """The depths that one of these matches needs, in blocks."""
        transfer, address, asset = match
        policy, brand = self._terms.policy, address.brand
        group = self._terms.groups.get((brand or "", address.player_id or ""))
        amount = self._sums[self._receiver(match)]
        return self._network.depths(
            asset,
            amount,
            is_coinbase=transfer.is_coinbase,
            tier=policy.tier(asset, amount, brand=brand, group=group),
            policy_version=policy.version,
        )

    def _receiver(self, match: Match) -> _Receiver:
        transfer, address, asset = match
        txid = "" if self._in_block else transfer.txid
        return (txid, address.brand, address.player_id, asset.id)
