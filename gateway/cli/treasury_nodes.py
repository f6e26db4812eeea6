"""`cage treasury nodes` and `pardon`: what each node was judged to be, and the end of a bar."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient


def nodes(
    network: Annotated[str | None, typer.Option("--network", help="Only this network.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """The nodes of each network: state, height, and why one does not count."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, "/v1/networks")

    found = [
        {"network": row["network"], **node}
        for row in call(work, api=api, key_id=key_id, key=key)
        if network in (None, row["network"])
        for node in row["nodes"]
    ]
    if as_json:
        show_json({"items": found})
        return
    names = ("network", "node", "state", "height", "since", "reason")
    columns = ("network", "node", "state", "height>", "since", "why")
    show_table(columns, [tuple(row[name] for name in names) for row in found])


def pardon(
    network: Annotated[str, typer.Argument(help="btc, eth, ...")],
    node: Annotated[str, typer.Argument(help="Host and port, as `cage treasury nodes` names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a node that lied count again before its time. Two people run the same command."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        body = {"network": network, "node": node, "reason": reason}
        return await client.post("/v1/node_pardons", body, idempotency_key=client.new_key("pardon"))

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
    elif answer["approval"]["state"] == "done":
        show_line(f"{node} counts again after its looks")
    else:
        show_line(f"proposed as {answer['approval']['id']}; another person runs the same command")


def mount(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("nodes")(nodes)
    app.command("pardon")(pardon)
