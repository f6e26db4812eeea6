"""`cage ledger adjust | reverse`: bookings by hand, over the API; two people run the same command.

Shared with `cage treasury top-up --allocate`, which is one category of them.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.cli import care
from gateway.cli.care import ConfirmOption
from gateway.cli.console import USAGE, CliError, JsonOption, show_json, show_line
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, change

PATH = "/v1/ledger/adjustments"
CATEGORIES = ("allocate", "write_off_receivable", "write_off_coins")

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept for ever.")]


def adjust(
    category: Annotated[str, typer.Argument(help=f"One of: {', '.join(CATEGORIES)}.")],
    asset: Annotated[str, typer.Option(help="btc:BTC")],
    amount: Annotated[str, typer.Option(help="In units of the asset.")],
    reason: ReasonOption,
    brand: Annotated[str | None, typer.Option(help="Whose clearing or debt.")] = None,
    wallet: Annotated[str | None, typer.Option(help="Of write_off_coins: btc/hot.")] = None,
    confirm_amount: ConfirmOption = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Book by hand: capital to a brand, or a loss. The first person proposes."""
    if category not in CATEGORIES:
        raise CliError(f"category {category}: one of {', '.join(CATEGORIES)}", code=USAGE)
    given = {"brand": brand, "wallet": wallet}
    body = {"category": category, "asset": asset, "amount": amount, "reason": reason} | {
        name: value for name, value in given.items() if value is not None
    }
    book(body, confirmed=confirm_amount, as_json=as_json, options=_options(api, key_id, key))


def reverse(
    posting: Annotated[str, typer.Argument(help="Of an adjustment: post_...")],
    reason: ReasonOption,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mirror an earlier adjustment, linked to it; two people run the same command."""
    _send(
        {"category": "reversal", "posting": posting, "reason": reason},
        as_json=as_json,
        options=_options(api, key_id, key),
    )


def book(
    body: Mapping[str, str],
    *,
    confirmed: str | None,
    as_json: bool,
    options: Mapping[str, Any],
) -> None:
    """Send an adjustment once its amount was said twice. Raises CliError."""
    about = body.get("brand") or body.get("wallet") or ""
    what = f"{body['category']} {body['amount']} {body['asset']} {about}"
    care.say_twice(what, body["amount"], confirmed)
    _send(body, as_json=as_json, options=options)


def _send(body: Mapping[str, str], *, as_json: bool, options: Mapping[str, Any]) -> None:
    # Each run is a call of its own: two equal adjustments may both be meant.
    answer = change(PATH, body, "adjustment", **options)
    if as_json:
        show_json(answer)
        return
    what = f"{answer['category']} {answer['amount']} {answer['asset']}"
    if answer["posting"] is None:
        show_line(f"{what}: proposed as {answer['approval']['id']}")
        show_line("a second person now runs the same command")
    else:
        show_line(f"{what}: booked as {answer['posting']}")


def _options(api: Any, key_id: Any, key: Any) -> dict[str, Any]:
    return {"api": api, "key_id": key_id, "key": key}


def mount(ledger_app: typer.Typer) -> None:
    """Add the commands to the group."""
    ledger_app.command("adjust")(adjust)
    ledger_app.command("reverse")(reverse)
