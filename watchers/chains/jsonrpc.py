"""JSON-RPC over a list of nodes with ordered fail-over: the part that both families share.

Owns matching of answers by id, strict parsing, caps, time-outs, cool-down and re-verification of
a node's identity. It opens no connection itself: each family's `node.py` passes a `Post`. Reads
may be repeated; `send_once` never is. Nothing here ever shows the credentials or path of a URL.
"""

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, Protocol, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from config.clock import Clock
from config.json_depth import shallow_text
from watchers.chains.errors import NotSent, RpcError
from watchers.errors import NodeUnavailable, WrongNetwork

RESPONSE_BYTES_MAX = 128 * 1024 * 1024  # a full 4 MB block at verbosity 2 is ~25 MB of JSON (N17)
BATCH_ITEMS_MAX = 100  # many providers refuse more (CHAINS B4)
READ_ATTEMPTS = 3
COOL_DOWN_SECONDS = 15.0  # a failed node is asked last for this long
RETRY_AFTER_SECONDS_MAX = 300.0  # a node may ask for patience, not for ever (N08)
IDENTITY_SECONDS = 60.0  # a node's identity is checked again this often (D62)
PARSE_IN_THREAD_BYTES = 256 * 1024  # larger answers take over 10 ms to parse (HOUSE 11)
NESTING_MAX = 64  # node answers have about ten levels
BUSY_CODES = frozenset({-28, -32005})  # warming up; limit exceeded (N08, N13)
BUSY_STATUSES = frozenset({403, 429, 502, 503, 504})
BUDGET_STATUSES = frozenset({403, 429})  # the node counts our calls: not even a retry is made (N08)
BUDGET_PAUSE_SECONDS = 1.0  # doubles with each refusal in a row, when the node names no time

Params = Sequence[object]
Call = tuple[str, Params]
Read = Callable[[bytes], Awaitable[object]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One node URL, taken apart so that its secret parts are never printed."""

    url: str
    authorization: str | None
    label: str

    def __repr__(self) -> str:
        return f"Endpoint({self.label})"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A whole HTTP answer; `retry_after_seconds` is 0 when the node did not ask for a pause."""

    status: int
    body: bytes
    retry_after_seconds: float = 0.0


class Post(Protocol):
    """Sends one body. `NotSent` when no connection was made, else `NodeUnavailable`."""

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer: ...


def endpoint(url: str) -> Endpoint:
    """Split credentials off a URL. Raises ValueError that shows neither password nor path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("node URL: http(s)://[user:password@]host[:port][/path] is required")
    host = parts.netloc.rpartition("@")[2]
    authorization = None
    if parts.username is not None:
        user, secret = unquote(parts.username), unquote(parts.password or "")
        token = base64.b64encode(f"{user}:{secret}".encode()).decode()
        authorization = f"Basic {token}"
    return Endpoint(
        url=urlunsplit(parts._replace(netloc=host)), authorization=authorization, label=host
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def parse_json(body: bytes) -> object:
    """Strict JSON with `Decimal` numbers (D30); raises NodeUnavailable for anything else (N09)."""
    try:
        text = shallow_text(body, NESTING_MAX)
        value: object = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except ValueError as error:
        raise NodeUnavailable(
            f"answer is not JSON of at most {NESTING_MAX} levels ({len(body)} bytes)"
        ) from error
    return value


@dataclass(frozen=True, slots=True)
class Refused:
    """What a result was refused with where it was read, for the one who asked."""

    error: NodeUnavailable


def reduce_answer(body: bytes, reduce: Callable[..., object], *arguments: object) -> object:
    """An answer whose result is `reduce(result, *arguments)`, or a `Refused`.

    A result that is refused is an answer all the same: no other node is asked for it here.
    """
    answer = parse_json(body)
    if isinstance(answer, dict) and "result" in answer and answer.get("error") is None:
        try:
            answer["result"] = reduce(answer["result"], *arguments)
        except NodeUnavailable as error:
            answer["result"] = Refused(error)
    return answer


def reduce_answers(
    body: bytes, count: int, reduce: Callable[..., object], *arguments: object
) -> object:
    """The same of a batch of `count` calls: `reduce` gets every result, in the order of the calls,
    and what it makes of them is the first one's. A batch with an answer that is none, or with other
    answers than asked for, stays as it is.
    """
    answers = parse_json(body)
    if not isinstance(answers, list) or not all(map(_is_result, answers)):
        return answers
    if len({answer["id"] for answer in answers}) != len(answers) or len(answers) != count:
        return answers
    answers.sort(key=lambda answer: int(answer["id"]))  # as they were numbered
    results = [answer["result"] for answer in answers]
    for answer in answers:
        answer["result"] = None
    try:
        answers[0]["result"] = reduce(*results, *arguments)
    except NodeUnavailable as error:
        answers[0]["result"] = Refused(error)
    return answers


def _is_result(answer: object) -> bool:
    return (
        isinstance(answer, dict)
        and type(answer.get("id")) is int
        and "result" in answer
        and answer.get("error") is None
    )


async def parse(body: bytes) -> object:
    """`parse_json`, in a thread where that takes long."""
    if len(body) > PARSE_IN_THREAD_BYTES:
        return await asyncio.to_thread(parse_json, body)
    return parse_json(body)


def _result(method: str, answer: object, *, call_id: int) -> object:
    """The result of one answer object; RpcError for its error; NodeUnavailable for nonsense."""
    if not isinstance(answer, Mapping) or type(answer.get("id")) is not int:
        raise NodeUnavailable(f"{method}: answer without an id")
    if answer["id"] != call_id:
        raise NodeUnavailable(f"{method}: answer with the id of another call")
    return _unwrap(method, answer)


def _unwrap(method: str, answer: Mapping[str, object]) -> object:
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, Mapping) or type(error.get("code")) is not int:
            raise NodeUnavailable(f"{method}: error object without a code")
        raise RpcError(method, int(error["code"]), str(error.get("message", "")))
    if "result" not in answer:
        raise NodeUnavailable(f"{method}: answer has neither result nor error")
    return answer["result"]


def _by_id(answers: object, *, expected: frozenset[int]) -> Mapping[int, Mapping[str, object]]:
    """The answers of a batch by id: each expected id exactly once, nothing else (N09)."""
    if isinstance(answers, Mapping) and answers.get("error") is not None:
        _unwrap("batch", answers)  # a whole batch refused is one error object
    if not isinstance(answers, list):
        raise NodeUnavailable("batch: the answer is not a list")
    by_id: dict[int, Mapping[str, object]] = {}
    for answer in answers:
        if not isinstance(answer, Mapping) or type(answer.get("id")) is not int:
            raise NodeUnavailable("batch: answer without an id")
        if answer["id"] in by_id or answer["id"] not in expected:
            raise NodeUnavailable("batch: answer with a duplicated or unknown id")
        by_id[answer["id"]] = answer
    if len(by_id) != len(expected):
        raise NodeUnavailable(f"batch: {len(by_id)} of {len(expected)} answers")
    return by_id


class _Busy(NodeUnavailable):
    """The node asks for a pause. `is_budget`: it counts calls, so none is made until then."""

    def __init__(self, message: str, *, pause_seconds: float, is_budget: bool) -> None:
        super().__init__(message)
        self.pause_seconds = pause_seconds
        self.is_budget = is_budget


class _OverBudget(NodeUnavailable):
    """Every node asked for a pause that is not over; nothing was sent."""


def _is_worth_another_try(error: BaseException) -> bool:
    """Transport trouble is; an error object is an answer, unless it says busy."""
    if isinstance(error, RpcError):
        return error.code in BUSY_CODES
    if isinstance(error, _OverBudget):
        return False
    return isinstance(error, NodeUnavailable)


@dataclass(slots=True)
class _NodeState:
    """What the pool remembers of one endpoint; times are monotonic seconds."""

    endpoint: Endpoint
    resting_until_seconds: float = 0.0
    verified_at_seconds: float | None = None
    closed_until_seconds: float = 0.0
    refusals: int = 0


class JsonRpc:
    """Calls over an ordered list of nodes; the first healthy one answers."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        post: Post,
        *,
        clock: Clock,
        identify: Callable[["JsonRpc", Endpoint], Awaitable[None]] | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("a network needs at least one node URL")
        self._nodes = [_NodeState(item) for item in endpoints]
        self._post = post
        self._clock = clock
        self._identify = identify
        self._ids = itertools.count(1)

    async def call(self, method: str, *params: object) -> object:
        """The result of a read; it may be null. RpcError or NodeUnavailable otherwise."""

        return await self.call_as(parse, method, *params)

    async def call_as(self, read: Read, method: str, *params: object) -> object:
        """`call` with another reader of the answer's bytes: it returns the answer as an object, or
        raises NodeUnavailable for bytes that are none."""

        async def ask(node: Endpoint) -> object:
            return await self._exchange(node, method, params, read)

        result = await self._read(ask)
        if isinstance(result, Refused):
            raise result.error
        return result

    async def batch(self, calls: Sequence[Call]) -> list[object | RpcError]:
        """One result or RpcError per call, in order; never a partial list (N09, N10)."""
        results: list[object | RpcError] = []
        for start in range(0, len(calls), BATCH_ITEMS_MAX):
            chunk = calls[start : start + BATCH_ITEMS_MAX]

            async def ask(node: Endpoint, chunk: Sequence[Call] = chunk) -> list[object | RpcError]:
                return await self._exchange_batch(node, chunk)

            answers = await self._read(ask)
            results.extend(answers)
        return results

    async def batch_as(self, read: Read, calls: Sequence[Call]) -> list[object | RpcError]:
        """`batch` of a few calls with another reader of the answer's bytes, as in `call_as`."""

        async def ask(node: Endpoint) -> list[object | RpcError]:
            return await self._exchange_batch(node, calls, read)

        results = await self._read(ask)
        for result in results:
            if isinstance(result, Refused):
                raise result.error
        return results

    async def batch_all(self, calls: Sequence[Call]) -> list[object]:
        """Like `batch`, but an item that failed is asked once more alone, then raised (N10)."""
        results: list[object] = []
        for (method, params), item in zip(calls, await self.batch(calls), strict=True):
            is_failed = isinstance(item, RpcError)
            results.append(await self.call(method, *params) if is_failed else item)
        return results

    async def send_once(self, method: str, *params: object) -> object:
        """A call with an effect: asked of one node, once (P05).

        The next node is tried only when no connection was made. NodeUnavailable means that the
        request may have arrived.
        """

        async def ask(node: Endpoint) -> object:
            return await self._exchange(node, method, params)

        return await self._send(ask)

    async def send_batch_once(self, calls: Sequence[Call]) -> list[object | RpcError]:
        """`send_once` of at most BATCH_ITEMS_MAX calls in one message: a result or RpcError of
        each, in order. RpcError: the node refused the message as a whole and did none of it.
        NodeUnavailable: any of them may have arrived."""

        async def ask(node: Endpoint) -> list[object | RpcError]:
            return await self._exchange_batch(node, calls)

        return await self._send(ask)

    async def _send(self, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        problem: NodeUnavailable | WrongNetwork | None = None
        for node in self._ordered():
            try:
                await self._verify(node)
            except (NodeUnavailable, WrongNetwork) as error:
                problem = NotSent(str(error))
                continue
            try:
                return await ask(node.endpoint)
            except NotSent as error:
                problem = error
                self._rest(node, COOL_DOWN_SECONDS)
        raise problem or NotSent("no node")

    async def ask(self, node: Endpoint, method: str, *params: object) -> object:
        """One unverified call to one node: for identity checks only."""
        return await self._exchange(node, method, params)

    async def check_identity(self) -> None:
        """Verify every node that answers now; WrongNetwork if any serves another chain (N02)."""
        reached = 0
        problem: NodeUnavailable | None = None
        for node in self._nodes:
            node.verified_at_seconds = None
            try:
                self._require_budget(node)
                await self._verify(node)
                reached += 1
            except _Busy as error:
                problem = error
                self._close_for(node, error)
            except NodeUnavailable as error:
                problem = error
        if not reached:
            raise problem or NodeUnavailable("no node")

    async def _read(self, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Repeat a read over all nodes, a few times with jitter (HOUSE 11: reads only)."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(READ_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.2),
            retry=retry_if_exception(_is_worth_another_try),
            sleep=self._clock.sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._read_once(ask)
        raise NodeUnavailable("no attempt was made")

    async def _read_once(self, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        problem: NodeUnavailable | WrongNetwork | None = None
        for node in self._ordered():
            try:
                self._require_budget(node)
                await self._verify(node)
                answer = await ask(node.endpoint)
                node.refusals = 0
                return answer
            except _OverBudget as error:
                problem = problem or error
            except RpcError as error:
                if error.code not in BUSY_CODES:
                    raise
                problem = error
                self._rest(node, COOL_DOWN_SECONDS)
            except _Busy as error:
                problem = error
                self._rest(node, max(COOL_DOWN_SECONDS, error.pause_seconds))
                self._close_for(node, error)
            except (NodeUnavailable, WrongNetwork) as error:
                problem = error
                self._rest(node, COOL_DOWN_SECONDS)
        raise problem or NodeUnavailable("no node")

    async def _verify(self, node: _NodeState) -> None:
        now = self._clock.monotonic_seconds()
        fresh_at = node.verified_at_seconds
        if self._identify is None or (fresh_at is not None and now - fresh_at < IDENTITY_SECONDS):
            return
        try:
            await self._identify(self, node.endpoint)
        except RpcError as error:
            # Never the answer to the call that is about to be made: -5 there means "unknown hash".
            raise NodeUnavailable(f"node {node.endpoint.label}: no identity") from error
        node.verified_at_seconds = now

    async def _exchange(
        self, node: Endpoint, method: str, params: Params, read: Read = parse
    ) -> object:
        call_id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)}
        answer = await self._post_json(node, request, read)
        return _result(method, answer, call_id=call_id)

    async def _exchange_batch(
        self, node: Endpoint, calls: Sequence[Call], read: Read = parse
    ) -> list[object | RpcError]:
        if not calls:
            return []
        ids = [next(self._ids) for _ in calls]
        request = [
            {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)}
            for call_id, (method, params) in zip(ids, calls, strict=True)
        ]
        answers = await self._post_json(node, request, read)
        by_id = _by_id(answers, expected=frozenset(ids))
        results: list[object | RpcError] = []
        for call_id, (method, _) in zip(ids, calls, strict=True):
            try:
                results.append(_unwrap(method, by_id[call_id]))
            except RpcError as error:
                results.append(error)
        return results

    async def _post_json(self, node: Endpoint, request: object, read: Read = parse) -> object:
        body = json.dumps(request, separators=(",", ":")).encode()
        answer = await self._post(node, body)
        if answer.status == 401:
            raise NodeUnavailable(f"node {node.label}: credentials refused")
        if answer.status in BUSY_STATUSES:
            pause = min(answer.retry_after_seconds, RETRY_AFTER_SECONDS_MAX)
            raise _Busy(
                f"node {node.label}: HTTP {answer.status}",
                pause_seconds=pause,
                is_budget=answer.status in BUDGET_STATUSES or pause > 0,
            )
        try:
            return await read(answer.body)
        except NodeUnavailable as error:
            raise NodeUnavailable(f"node {node.label}: HTTP {answer.status}, {error}") from error

    def _ordered(self) -> list[_NodeState]:
        now = self._clock.monotonic_seconds()
        return sorted(self._nodes, key=lambda node: node.resting_until_seconds > now)

    def _require_budget(self, node: _NodeState) -> None:
        left_seconds = node.closed_until_seconds - self._clock.monotonic_seconds()
        if left_seconds > 0:
            raise _OverBudget(f"node {node.endpoint.label}: asks for {left_seconds:.0f} s of rest")

    def _close_for(self, node: _NodeState, busy: _Busy) -> None:
        """Keep away from a node that counts calls: as long as it says, or ever longer.

        The jitter is a hash of the node and its refusals, so that processes do not return at once.
        """
        if not busy.is_budget:
            return
        node.refusals += 1
        seed = f"{node.endpoint.label}:{id(self)}:{node.refusals}".encode()
        jitter_seconds = hashlib.sha256(seed).digest()[0] / 1024  # up to a quarter more
        wait_seconds = busy.pause_seconds or BUDGET_PAUSE_SECONDS * 2 ** min(node.refusals - 1, 8)
        closed_seconds = min(wait_seconds, RETRY_AFTER_SECONDS_MAX) * (1 + jitter_seconds)
        node.closed_until_seconds = self._clock.monotonic_seconds() + closed_seconds

    def _rest(self, node: _NodeState, pause_seconds: float) -> None:
        node.verified_at_seconds = None
        node.resting_until_seconds = self._clock.monotonic_seconds() + pause_seconds
