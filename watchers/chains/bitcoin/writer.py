"""`ChainWriter` for Bitcoin-family networks: fee quotes, PSBTs, broadcast.

Never signs and never retries a broadcast.
"""

from collections.abc import Sequence

from watchers.chain import FeeQuote, Plan, SendOutcome, SendResult, Unsigned, UtxoPlan
from watchers.chains.bitcoin import build, fee, rawtx
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.errors import result_of
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.errors import RpcError
from watchers.errors import NodeUnavailable, UnsupportedOperation

TEMPLATE_RULES = ["segwit", "mweb", "signet"]  # BIP 9: all that a network may insist on


class BitcoinWriter:
    """What we ask of the nodes of one network, and what we build for it."""

    def __init__(
        self, node: BitcoinNode, params: BitcoinParams, codec: BitcoinAddressCodec
    ) -> None:
        self._node = node
        self._params = params
        self._codec = codec

    async def fee_quote(self) -> FeeQuote:
        info = await self._node.rpc.call("getmempoolinfo")
        estimates = await self._node.rpc.batch(
            [("estimatesmartfee", (target,)) for target in fee.TARGETS]
        )
        return fee.quote(info, estimates, await self._template())

    async def _template(self) -> object:
        """The block that the node would mine now; None where it makes none."""
        try:
            return await self._node.rpc.call("getblocktemplate", {"rules": TEMPLATE_RULES})
        except RpcError:  # still in its first download, without peers, or not offered
            return None

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        return build.size_vb(inputs=inputs, outputs=outputs)

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        raise UnsupportedOperation(f"{self._params.network} has no gas")

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        raise UnsupportedOperation(f"{self._params.network} has no gas")

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        raise UnsupportedOperation(f"{self._params.network} has no gas")

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        raise UnsupportedOperation(f"{self._params.network} has no contracts")

    def build(self, plan: Plan) -> Unsigned:
        if not isinstance(plan, UtxoPlan):
            raise UnsupportedOperation(f"{self._params.network} takes UTXO plans")
        return build.build(plan, codec=self._codec, asset=self._params.asset)

    async def send(self, raw: bytes) -> SendResult:
        """The node's own fee ceiling (0.1 coin per kvB) stays on as a last guard."""
        try:
            txid = rawtx.reduce(raw).txid
        except rawtx.BadRawTx as error:
            return SendResult(outcome=SendOutcome.INVALID, detail=f"not a tx: {error}")
        try:
            answer = await self._node.rpc.send_once("sendrawtransaction", raw.hex())
        except NodeUnavailable as error:
            return result_of(error)
        if answer != txid:
            return SendResult(outcome=SendOutcome.UNCLEAR, detail="the node named another txid")
        return SendResult(outcome=SendOutcome.ACCEPTED, detail="")

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        return [await self.send(raw) for raw in raws]  # coins ride together already
