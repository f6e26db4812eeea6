"""How staff commands reach the API: under the person's own key, and nothing else.

Owns the options and variables that name API and key, and turns answers into exit codes: a problem
that policy decided is 3, every other failure 1. No database and no node is needed here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.console import FAILED, REFUSED, USAGE, CliError

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

T = TypeVar("T")

DEFAULT_API = "http://127.0.0.1:8420"
API_VARIABLE = "CAGE_STAFF_API"
KEY_ID_VARIABLE = "CAGE_STAFF_KEY_ID"
KEY_FILE_VARIABLE = "CAGE_STAFF_KEY_FILE"
POLL_SECONDS = 0.5
PAGE = "500"
PAGES_MAX = 1000  # no list that is kept whole is followed for ever

ApiOption = Annotated[
    str | None, typer.Option("--api", help=f"URL of the API; else {API_VARIABLE}.")
]
KeyIdOption = Annotated[
    str | None, typer.Option("--key-id", help=f"Id of your key; else {KEY_ID_VARIABLE}.")
]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key", help=f"Your key file (PEM); else {KEY_FILE_VARIABLE}.")
]


def call(
    work: Callable[["StaffClient"], Awaitable[T]],
    *,
    api: str | None,
    key_id: str | None,
    key: Path | None,
) -> T:
    """Run `work` with a client under the person's key. Raises CliError."""
    url = api or os.environ.get(API_VARIABLE) or DEFAULT_API
    chosen_id = key_id or os.environ.get(KEY_ID_VARIABLE)
    named = os.environ.get(KEY_FILE_VARIABLE)
    file = key or (Path(named) if named else None)
    if not chosen_id or file is None:
        raise CliError(
            "this command needs your staff key",
            hint=f"give --key-id and --key, or set {KEY_ID_VARIABLE} and {KEY_FILE_VARIABLE}",
            code=USAGE,
        )
    from gateway.client import ClientProblem

    try:
        return asyncio.run(_with_client(work, url=url, key_id=chosen_id, key_file=file))
    except ClientProblem as error:
        raise CliError(
            f"{error} ({error.code})" if error.code else str(error),
            hint=_hint(error.status),
            code=REFUSED if error.status in (403, 409, 422) else FAILED,
        ) from error


def change(
    path: str,
    body: Mapping[str, Any],
    noun: str,
    *,
    api: str | None,
    key_id: str | None,
    key: Path | None,
) -> dict[str, Any]:
    """One POST under an idempotency key of this run, named after `noun`. Raises CliError."""

    async def work(client: "StaffClient") -> dict[str, Any]:
        return await client.post(path, body, idempotency_key=client.new_key(noun))

    return call(work, api=api, key_id=key_id, key=key)


async def until(
    client: "StaffClient",
    found: Mapping[str, Any],
    path: str,
    is_over: Callable[[Mapping[str, Any]], bool],
    *,
    seconds: float,
    hint: str,
) -> Mapping[str, Any]:
    """The object at `path`, asked for until it is over; `found` is what is known of it. Raises
    CliError after so many seconds."""
    deadline_seconds = client.clock.monotonic_seconds() + seconds
    while not is_over(found):
        if client.clock.monotonic_seconds() > deadline_seconds:
            raise CliError(f"{found['id']} is {found['state']} after {seconds:.0f} s", hint=hint)
        await client.clock.sleep(POLL_SECONDS)
        found = await client.get(path)
    return found


async def _with_client(
    work: Callable[["StaffClient"], Awaitable[T]], *, url: str, key_id: str, key_file: Path
) -> T:
    from gateway.cli.client import StaffClient

    async with StaffClient(url=url, key_id=key_id, key_file=key_file) as client:
        return await work(client)


def _hint(status: int) -> str:
    match status:
        case 401:
            return "is the key registered (cage staff add) and the clock of this machine right?"
        case 403:
            return "your key has not the scope or role for this"
        case _:
            return ""


async def pages(
    client: "StaffClient",
    path: str,
    query: Mapping[str, str] | None = None,
    *,
    limit: str | None = PAGE,
) -> AsyncIterator[Mapping[str, Any]]:
    """Every page, one at a time. A cursor that comes again is an error, not a loop."""
    parameters = {**({"limit": limit} if limit else {}), **(query or {})}
    while True:
        page = await client.get(path, parameters)
        yield page
        following = page["next_cursor"]
        if following is None:
            return
        if following == parameters.get("cursor"):
            raise CliError(f"{path} gave the same page twice", hint="is the API of this version?")
        parameters["cursor"] = following


async def all_pages(
    client: "StaffClient", path: str, query: Mapping[str, str] | None = None
) -> list[Mapping[str, Any]]:
    """Every item of a list, page by page."""
    items: list[Mapping[str, Any]] = []
    left = PAGES_MAX
    async for page in pages(client, path, query):
        if not left:
            raise CliError(
                f"{path} has more than {PAGES_MAX} pages", hint="narrow it with a filter"
            )
        left -= 1
        items += page["items"]
    return items
