"""`cage deliveries list | show | redeliver | recover`: what became of each webhook, over the API.

A delivery that is sent again keeps its id and its bytes; the order per object stays.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import (
    ApiOption,
    KeyFileOption,
    KeyIdOption,
    all_pages,
    call,
    change,
)

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/webhook_deliveries"

deliveries_app = typer.Typer(no_args_is_help=True, help="Webhooks: what became of each.")

DeliveryArgument = Annotated[str, typer.Argument(help="The delivery's id: del_...")]


@deliveries_app.command("list")
def list_(
    state: Annotated[
        str | None, typer.Option("--state", help="pending, delivered or parked.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Of this endpoint: we_...")
    ] = None,
    event: Annotated[str | None, typer.Option("--event", help="Of this event: evt_...")] = None,
    brand: Annotated[str | None, typer.Option("--brand", help="Of this brand.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliveries, newest first."""
    named = {"state": state, "endpoint": endpoint, "event": event, "brand": brand}
    query = {name: value for name, value in named.items() if value is not None}

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, PATH, query)

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    names = (
        "id", "brand", "seq", "type", "state", "attempts", "last_status", "last_error",
        "next_attempt_at", "endpoint_id",
    )  # fmt: skip
    head = (
        "delivery", "brand", "seq>", "type", "state", "tries>", "answer>", "error", "next try",
        "endpoint",
    )  # fmt: skip
    show_table(head, [tuple(row[name] for name in names) for row in found])


@deliveries_app.command("show")
def show(
    delivery: DeliveryArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """One delivery and how its tries went."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get(f"{PATH}/{delivery}")

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(found)
    else:
        show_table(("field", "value"), list(found.items()))


@deliveries_app.command("redeliver")
def redeliver(
    delivery: DeliveryArgument,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send it again, whatever became of it; a new schedule begins."""
    path = f"{PATH}/{delivery}/redeliver"
    found = change(path, {}, "redeliver", api=api, key_id=key_id, key=key)
    if as_json:
        show_json(found)
    elif found["is_waiting"]:
        show_line(f"{delivery} is {found['state']} behind an older event of the same object")
    else:
        show_line(f"{delivery} is {found['state']}; next try {found['next_attempt_at']}")


@deliveries_app.command("recover")
def recover(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's id: we_...")],
    since: Annotated[str, typer.Option("--since", help="RFC 3339; from here on.")],
    until: Annotated[
        str | None, typer.Option("--until", help="RFC 3339; before this, else now.")
    ] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue every event of a time that the endpoint parked or never had."""
    body = {"since": since} | ({} if until is None else {"until": until})
    path = f"/v1/webhook_endpoints/{endpoint}/recover"
    found = change(path, body, "recover", api=api, key_id=key_id, key=key)
    if as_json:
        show_json(found)
        return
    show_line(f"{found['queued']} events are queued for {endpoint}")
    if found["next_since"] is not None:
        show_line(f"there are more: run it again with --since {found['next_since']}")


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(deliveries_app, name="deliveries")
