"""Networks of the chain registry, vectors, and a post that answers from a script."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config.chains import load_chains
from config.settings import NetworkSettings, Settings
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.errors import RpcError
from watchers.chains.evm.params import EvmParams
from watchers.chains.jsonrpc import Endpoint, HttpAnswer
from watchers.errors import NodeUnavailable
from watchers.registry import bitcoin_params, evm_params

VECTORS = Path(__file__).resolve().parents[3] / "vectors"


def vectors(name: str) -> Any:
    """A vector file by its path below tests/vectors."""
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def bitcoin_network(network: str, chain: str) -> BitcoinParams:
    """Parameters from the shipped registry."""
    settings = Settings(livemode=chain == "main", networks={network: NetworkSettings(chain=chain)})
    return bitcoin_params(load_chains(settings)[network])


def evm_network(chain: str = "dev", *, token: str | None = None) -> EvmParams:
    """Parameters from the shipped registry, with `token` listed as eth:USDT."""
    settings = Settings(livemode=chain == "main", networks={"eth": NetworkSettings(chain=chain)})
    params = evm_params(load_chains(settings)["eth"], [])
    tokens = {} if token is None else {token: "eth:USDT"}
    return EvmParams(
        network=params.network,
        chain_id=params.chain_id,
        native_asset=params.native_asset,
        tokens=tokens,
        coin_type=params.coin_type,
        xpub_versions=params.xpub_versions,
        has_finalized_tag=params.has_finalized_tag,
    )


Answer = Callable[[Any], HttpAnswer | Exception]


class ScriptedPost:
    """Answers each request by the next step of a script; remembers who was asked what."""

    def __init__(self, steps: Sequence[Answer]) -> None:
        self._steps = list(steps)
        self.asked: list[tuple[str, Any]] = []

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        request = json.loads(body)
        self.asked.append((endpoint.label, request))
        if not self._steps:
            raise NodeUnavailable("the script is over")
        answer = self._steps.pop(0)(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def raw(body: bytes, *, status: int = 200, retry_after_seconds: float = 0.0) -> Answer:
    """Answer with these bytes, whatever was asked."""
    answer = HttpAnswer(status=status, body=body, retry_after_seconds=retry_after_seconds)
    return lambda request: answer


def fails(error: Exception) -> Answer:
    """Fail with this error, whatever was asked."""
    return lambda request: error


def result(value: object) -> Answer:
    """A correct answer to a single call."""
    return lambda request: answer_of({"jsonrpc": "2.0", "id": request["id"], "result": value})


def error(code: int, message: str) -> Answer:
    """A correct error object for a single call."""
    return lambda request: answer_of(
        {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}
    )


def answer_of(value: object) -> HttpAnswer:
    """An HTTP 200 with JSON."""
    return HttpAnswer(status=200, body=json.dumps(value).encode())


class MethodPost:
    """Answers each call by its method, batches too; an RpcError becomes an error object."""

    def __init__(self, methods: Mapping[str, Callable[..., object]]) -> None:
        self._methods = methods
        self.asked: list[str] = []

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        request = json.loads(body)
        if isinstance(request, list):
            return answer_of([self._answer(call) for call in request])
        return answer_of(self._answer(request))

    def _answer(self, call: Any) -> dict[str, object]:
        self.asked.append(call["method"])
        method = self._methods.get(call["method"])
        if method is None:
            return {"id": call["id"], "error": {"code": -32601, "message": "Method not found"}}
        try:
            return {"id": call["id"], "result": method(*call["params"])}
        except RpcError as refused:
            return {"id": call["id"], "error": {"code": refused.code, "message": refused.message}}


async def nothing() -> None:
    """Closes nothing."""
