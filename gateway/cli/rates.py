"""`cage treasury rates set | list`: what the exposure caps value deposits by."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

rates_app = typer.Typer(no_args_is_help=True, help="Reference rates of the exposure caps.")


@rates_app.command("set")
def set_rate(
    asset: Annotated[str, typer.Argument(help="btc:BTC, eth:USDT, ...")],
    rate: Annotated[str, typer.Argument(help="Currency units per one whole unit: 64250.5")],
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter the rate of now; one that is far off waits for a second person."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.put("/v1/rates", {"asset": asset, "rate": rate})

    answer = call(work, api=api, key_id=key_id, key=key)
    approval = answer["approval"]
    if as_json:
        show_json(answer)
    elif approval is not None and approval["state"] == "pending_approval":
        show_line(f"{asset}: {approval['reason']}; a second person now runs the same command")
    else:
        show_line(f"{asset} is {answer['rate']['rate']} {answer['rate']['currency']}")


@rates_app.command("list")
def list_rates(
    asset: Annotated[str | None, typer.Argument(help="The history of one asset.")] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest rate of each asset, and whether it still counts."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get("/v1/rates", {"asset": asset} if asset else {})

    found = call(work, api=api, key_id=key_id, key=key)["items"]
    if as_json:
        show_json({"items": found})
        return
    rows = [
        (
            row["asset"],
            f"{row['rate']} {row['currency']}",
            row["as_of"],
            row["source"],
            row["entered_by"],
            row["approved_by"],
            "yes" if row["is_fresh"] else "too old: caps are full",
        )
        for row in found
    ]
    show_table(("asset", "rate>", "as of", "source", "entered by", "approved by", "counts"), rows)
