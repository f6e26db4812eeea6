"""One network over several nodes as a `watchers.chain.Chain`: reads agree, sends go to all.

Owns broadcasting and the median of fee quotes; agreement is `watchers.quorum`.
"""

from collections.abc import Sequence
from functools import partial

from watchers.agreement import Answers, collect
from watchers.chain import (
    ChainWriter,
    FeeQuote,
    Plan,
    SendOutcome,
    SendResult,
    Unsigned,
)
from watchers.chain_parts import ChainParts
from watchers.errors import NodeUnavailable
from watchers.fees import median_quote
from watchers.nodes import NodePool
from watchers.quorum import AgreeingReader

SEND_GRACE_SECONDS = 2.0  # after the first acceptance the other nodes get this long to take it

# Of several answers the one that says most about what may happen: a tx that one node took is out;
# one that may have arrived is out as far as we know; then what must be looked at on the chain.
BY_WEIGHT = (
    SendOutcome.ACCEPTED,
    SendOutcome.ALREADY_MINED,
    SendOutcome.UNCLEAR,
    SendOutcome.CONFLICT,
    SendOutcome.CHAIN_FULL,
    SendOutcome.FEE_TOO_LOW,
    SendOutcome.INVALID,
)


class AgreeingWriter:
    """Builds with the family's own builder, which asks no node; sends to every healthy node."""

    def __init__(self, pool: NodePool) -> None:
        self._pool = pool
        self._builder: ChainWriter = pool.nodes[0].chain.writer

    async def fee_quote(self) -> FeeQuote:
        """The median of what the healthy nodes quote: one that is far off moves nothing (F1)."""
        answers: Answers[FeeQuote] = await collect(
            {node.label: node.chain.writer.fee_quote for node in await self._pool.healthy()},
            enough=lambda found: found.pending == 0,
            timeout_seconds=self._pool.timeout_seconds,
        )
        for label, error in answers.errors.items():
            self._pool.note_error(label, error)
        if not answers.values:
            raise NodeUnavailable(f"no node has a fee quote: {answers.told()}")
        return median_quote(list(answers.values.values()))

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        return self._builder.estimate_size_vb(inputs=inputs, outputs=outputs)

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        return self._builder.gas_limit(asset, legs=legs)

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        return self._builder.expected_gas(asset, legs=legs)

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        return self._builder.safe_gas(asset, signatures=signatures)

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        return self._builder.collect_gas(legs=legs, authorisations=authorisations)

    def build(self, plan: Plan) -> Unsigned:
        return self._builder.build(plan)

    async def send(self, raw: bytes) -> SendResult:
        """Broadcast the same bytes to every healthy node, once each (P04); the weightiest answer.

        A node that is late still passes a tx on, so it is used when no healthy one is left.
        """
        return (await self.send_many([raw]))[0]

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        try:
            await self._pool.healthy()
        except NodeUnavailable:
            pass  # fewer than k: a broadcast needs one node, not an agreement
        nodes = self._pool.usable()
        if not nodes:
            detail = "not sent: no node is usable"
            return [SendResult(outcome=SendOutcome.UNCLEAR, detail=detail)] * len(raws)
        answers: Answers[Sequence[SendResult]] = await collect(
            {node.label: partial(node.chain.writer.send_many, raws) for node in nodes},
            enough=lambda found: found.pending == 0,
            acceptable=_has_accepted_all,
            timeout_seconds=self._pool.timeout_seconds,
            grace_seconds=SEND_GRACE_SECONDS,
        )
        lost = [
            SendResult(outcome=SendOutcome.UNCLEAR, detail=str(error))
            for error in answers.errors.values()
        ]
        told = list(answers.values.values())
        return [
            min(
                [*(found[place] for found in told), *lost],
                key=lambda item: BY_WEIGHT.index(item.outcome),
            )
            for place in range(len(raws))
        ]


def _has_accepted_all(found: Answers[Sequence[SendResult]]) -> bool:
    """Whether one node has taken everything."""
    return any(
        all(item.outcome is SendOutcome.ACCEPTED for item in results)
        for results in found.values.values()
    )


class AgreedChain(ChainParts):
    """A network as its nodes agree on it."""

    def __init__(self, pool: NodePool, *, reorg_limit_blocks: int) -> None:
        first = pool.nodes[0].chain
        super().__init__(
            network=first.network,
            family=first.family,
            codec=first.codec,
            reader=AgreeingReader(pool, reorg_limit_blocks=reorg_limit_blocks),
            writer=AgreeingWriter(pool),
        )
        self.pool = pool

    async def close(self) -> None:
        """End looks and connections."""
        await self.pool.close()
