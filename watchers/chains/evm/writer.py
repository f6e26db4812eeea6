"""`ChainWriter` for EVM networks: fee quotes, EIP-1559 payloads, broadcast.

Never signs and never retries a broadcast (CASES: client libraries that do hide the first answer).
"""

from collections.abc import Sequence

from eth_utils.crypto import keccak

from watchers.chain import FeeQuote, Plan, SendOutcome, SendResult, Unsigned, UtxoPlan
from watchers.chains.errors import RpcError
from watchers.chains.evm import build, collect, fee, safe
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.errors import result_of
from watchers.chains.evm.node import EvmNode
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable, UnsupportedOperation

SEND = "eth_sendRawTransaction"


class EvmWriter:
    """What we ask of the nodes of one network, and what we build for it."""

    def __init__(self, node: EvmNode, params: EvmParams, codec: EvmAddressCodec) -> None:
        self._node = node
        self._params = params
        self._codec = codec

    async def fee_quote(self) -> FeeQuote:
        history = await self._node.rpc.call(
            "eth_feeHistory", hex(fee.HISTORY_BLOCKS), "latest", list(fee.PERCENTILES)
        )
        return fee.quote(history, await self._node.rpc.call("eth_maxPriorityFeePerGas"))

    def estimate_size_vb(self, *, inputs: int, outputs: Sequence[str]) -> int:
        raise UnsupportedOperation(f"{self._params.network} charges gas, not size")

    def gas_limit(self, asset: str, *, legs: int | None = None) -> int:
        return build.gas_limit(asset, legs=legs, params=self._params)

    def expected_gas(self, asset: str, *, legs: int | None = None) -> int:
        return build.expected_gas(asset, legs=legs, params=self._params)

    def collect_gas(self, *, legs: int, authorisations: int) -> tuple[int, int]:
        return (
            collect.gas_limit(legs=legs, authorisations=authorisations),
            collect.expected_gas(legs=legs, authorisations=authorisations),
        )

    def safe_gas(self, asset: str, *, signatures: int) -> int:
        return safe.gas_limit(transfer_gas=self.gas_limit(asset), signatures=signatures)

    def build(self, plan: Plan) -> Unsigned:
        if isinstance(plan, UtxoPlan):
            raise UnsupportedOperation(f"{self._params.network} takes account plans")
        return build.build(plan, codec=self._codec, params=self._params)

    async def send(self, raw: bytes) -> SendResult:
        try:
            answer = await self._node.rpc.send_once(SEND, "0x" + raw.hex())
        except NodeUnavailable as error:
            return result_of(error)
        return _result(raw, answer)

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        if len(raws) < 2:
            return [await self.send(raw) for raw in raws]
        try:
            answers = await self._node.rpc.send_batch_once(
                [(SEND, ("0x" + raw.hex(),)) for raw in raws]
            )
        except RpcError:  # a node that takes no batches has done none of it
            return [await self.send(raw) for raw in raws]
        except NodeUnavailable as error:
            return [result_of(error)] * len(raws)
        return [_result(raw, answer) for raw, answer in zip(raws, answers, strict=True)]


def _result(raw: bytes, answer: object) -> SendResult:
    if isinstance(answer, RpcError):
        return result_of(answer)
    if answer != "0x" + keccak(raw).hex():
        return SendResult(outcome=SendOutcome.UNCLEAR, detail="the node named another txid")
    return SendResult(outcome=SendOutcome.ACCEPTED, detail="")
