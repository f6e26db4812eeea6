"""Reads reference rates from one configured HTTPS source, in the one role that may call outside.

Off without a URL. What a source says is bounded like one person's word: a rate that jumps is
refused and an alarm is raised; two people then enter it. An answer that does not come, or says
nothing new, changes nothing: rates grow old, and caps are full after an hour. It knows no caps.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

import aiohttp
from sqlalchemy.exc import DBAPIError

from config import alarm_store
from config.clock import Clock
from config.credit_policy import ReferenceSpec
from config.database import Database
from config.ids import Ids
from config.json_depth import shallow_text
from config.logs import get_logger
from config.policy import RateSource
from gateway.webhooks.connector import GuardedResolver, guarded_socket
from gateway.webhooks.errors import SourceFailed
from watchers import rates
from watchers.errors import RateRefused, RateTooFar

ANSWER_BYTES_MAX = 256 * 1024
LEVELS_MAX = 32  # members are named by paths of a few words
CLOCK_SKEW_SECONDS = 60  # a source's clock may be ahead by this much; then its moment is ours
ALARM = "rate_refused"

log = get_logger("gateway.rates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a source says of one asset."""

    asset: str
    rate: Decimal
    as_of: datetime


class Fetcher(Protocol):
    """What the loop needs of the network."""

    async def get(self, url: str) -> bytes:
        """The body of a 200. Raises SourceFailed for everything else."""
        ...


class SourceClient:
    """GET from a public HTTPS host: guarded like webhooks, no redirect, bounded answer."""

    def __init__(self, *, timeout_seconds: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(aiohttp.ThreadedResolver()), socket_factory=guarded_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> bytes:
        """At most `timeout_seconds` and ANSWER_BYTES_MAX."""
        if self._session is None:
            raise RuntimeError("SourceClient is used outside its `async with`")
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.get(url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise SourceFailed(f"answered {response.status}")
                body = await response.content.read(ANSWER_BYTES_MAX + 1)
                while len(body) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                    body += await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise SourceFailed(type(error).__name__) from error
        if len(body) > ANSWER_BYTES_MAX:
            raise SourceFailed("the answer is too long")
        return body


def parse(body: bytes, source: RateSource, *, at: datetime) -> list[Quote]:
    """The quotes of an answer. Pure; no float: numbers are read as Decimal.

    Raises SourceFailed: a member that is missing or no rate spoils the whole answer.
    """
    try:
        text = shallow_text(body, LEVELS_MAX)
        answer = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    except (ValueError, InvalidOperation) as error:
        raise SourceFailed(f"not JSON of at most {LEVELS_MAX} levels") from error
    as_of = _moment(_member(answer, source.as_of))
    if at < as_of <= at + timedelta(seconds=CLOCK_SKEW_SECONDS):
        as_of = at
    return [
        Quote(asset=asset, rate=_rate(_member(answer, path), asset), as_of=as_of)
        for asset, path in sorted(source.assets.items())
    ]


def _refuse(text: str) -> Decimal:
    raise ValueError(f"{text} is no number")


def _member(answer: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(answer, Mapping) or name not in answer:
            raise SourceFailed(f"no member {path}")
        answer = answer[name]
    return answer


def _moment(value: Any) -> datetime:
    try:
        if isinstance(value, Decimal):
            return datetime.fromtimestamp(int(value), tz=UTC)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError) as error:
        raise SourceFailed("as_of is no moment") from error
    if moment.tzinfo is None:
        raise SourceFailed("as_of has no zone")
    return moment.astimezone(UTC)


def _rate(value: Any, asset: str) -> Decimal:
    text = format(value, "f") if isinstance(value, Decimal) else value
    if not isinstance(text, str):
        raise SourceFailed(f"the rate of {asset} is no number")
    try:
        return rates.parse_rate(text)
    except RateRefused as error:
        raise SourceFailed(f"the rate of {asset} is no rate") from error


class RateLoop:
    """Polls one source; several instances may, for the same moment counts once."""

    def __init__(
        self,
        *,
        source: RateSource,
        reference: ReferenceSpec,
        fetcher: Fetcher,
        database: Database,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._source = source
        self._reference = reference
        self._fetcher = fetcher
        self._database = database
        self._clock = clock
        self._ids = ids
        self._name = f"source:{urlsplit(source.url).hostname}"

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await self._clock.sleep(float(self._source.poll_seconds))

    async def poll(self) -> int:
        """One look; how many rates are new. A refusal of one asset holds up no other."""
        try:
            body = await self._fetcher.get(self._source.url)
            quotes = parse(body, self._source, at=self._clock.now())
        except SourceFailed as error:
            log.warning("rates.source_failed", source=self._name, error=str(error))
            return 0
        return sum([await self._enter(quote) for quote in quotes])

    async def _enter(self, quote: Quote) -> bool:
        at = self._clock.now()
        try:
            async with self._database.unit_of_work() as uow:
                found = await rates.newest(uow, assets=[quote.asset], reference=self._reference)
                last = found.get(quote.asset)
                if last is not None and quote.as_of <= last.as_of:
                    return False  # nothing new, or a person knew it first
                await rates.record(
                    uow,
                    rate_id=self._ids.new_id(),
                    asset=quote.asset,
                    rate=quote.rate,
                    source=self._name,
                    as_of=quote.as_of,
                    entered_by=self._name,
                    reference=self._reference,
                    at=at,
                )
        except RateTooFar as error:
            await self._tell(quote, str(error), at=at)
            return False
        except (RateRefused, DBAPIError) as error:
            log.warning("rates.refused", asset=quote.asset, error=type(error).__name__)
            return False
        return True

    async def _tell(self, quote: Quote, detail: str, *, at: datetime) -> None:
        log.warning("rates.jump", asset=quote.asset, source=self._name)
        async with self._database.unit_of_work() as uow:
            await alarm_store.raise_alarm(
                uow,
                alarm_id=self._ids.new_id(),
                kind=ALARM,
                object_id=uuid5(NAMESPACE_URL, quote.asset),
                detail=f"{quote.asset} from {self._name}: {detail}",
                at=at,
            )
