"""`cage treasury refill request | export | import | cancel | status`: from cold to hot.

A refill is asked for and approved like any move (`treasury apply`). Its file goes to the owners of
the cold wallet, who sign it with their own programs and devices; what they bring back is checked by
the API against what was stored. Nothing here has or wants a key of the cold wallet.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import ConfirmOption, say_twice
from gateway.cli.console import USAGE, CliError, JsonOption, show_json, show_line, show_table
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, all_pages, call, change

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/rebalances"
PSBT_MAGIC = b"psbt\xff"  # BIP 174
SAFE_SIGNATURE_BYTES = 65  # no transaction is as short
FILE_BYTES_MAX = 512 * 1024  # the API takes no larger body

refill_app = typer.Typer(
    no_args_is_help=True, help="From cold to hot: signed outside, brought back, sent."
)

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")
]
RefillArgument = Annotated[str, typer.Argument(help="The refill's id: reb_...")]


@refill_app.command("request")
def request(
    asset: Annotated[str, typer.Argument(help="Such as btc:BTC.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    amount: Annotated[
        str | None, typer.Argument(help="In asset units; without it, what the band asks for.")
    ] = None,
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for it. People approve it with `treasury apply`."""
    body: dict[str, Any] = {"asset": asset, "direction": "cold_to_hot", "reason": reason}
    body |= {"amount": amount} if amount is not None else {}
    if amount is not None and not dry_run:
        say_twice(f"refill {amount} {asset}", amount, confirm_amount)
    body["propose"] = not dry_run
    answer = change(f"{PATH}/plan", body, "refill", api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**answer, "dry_run": dry_run})
        return
    for item in answer["items"]:
        what = f"{item['amount']} {item['asset']} from cold to hot"
        if dry_run:
            show_line(f"would ask for {what}; nothing was stored")
        else:
            show_line(f"{item['id']}: {what} is {item['state']}")
            show_line(f"people approve it with: cage treasury apply {item['id']}")


@refill_app.command("export")
def export(
    refill: RefillArgument,
    psbt: Annotated[
        Path | None,
        typer.Option("--psbt", "--file", help="Write the file here; else under its own name."),
    ] = None,
    as_base64: Annotated[
        bool,
        typer.Option("--base64", help="The text on stdout instead of a file (accounts: hex)."),
    ] = False,
    qr: Annotated[
        Path | None, typer.Option("--qr", help="Write a QR code (SVG) here instead.")
    ] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """The file that the owners of the cold wallet sign, and what to compare on each device."""

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get(f"{PATH}/{refill}/unsigned")

    answer = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
        return
    is_psbt = answer["format"] == "psbt"
    if as_base64:
        if answer["format"] == "safe":
            raise CliError(
                "typed data has no such form", hint=f"refill export {refill} --file FILE"
            )
        show_line(answer["psbt"] if is_psbt else answer["tx"])
        return
    if qr is not None:
        if answer["qr_svg"] is None:
            raise CliError(
                "the file is too large for one QR code", hint=f"refill export {refill} --psbt FILE"
            )
        _write(qr, answer["qr_svg"].encode("utf-8"))
    else:
        text = json.dumps(answer["transaction"] or answer["typed_data"], indent=2) + "\n"
        data = base64.b64decode(answer["psbt"]) if is_psbt else text.encode("ascii")
        _write(psbt or Path(answer["file_name"]), data)
    _show_file(answer)


@refill_app.command("import")
def import_(
    refill: RefillArgument,
    file: Annotated[
        Path,
        typer.Argument(
            help="A signed PSBT, a finished tx (hex), or the signature of a Safe's owner (hex)."
        ),
    ],
    confirm_amount: ConfirmOption = None,
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a signed file back; once every signature is there, payouts send it."""
    body: dict[str, Any] = {**_signed(file), "dry_run": dry_run}

    async def look(client: "StaffClient") -> Mapping[str, Any]:
        return await client.get(f"{PATH}/{refill}")

    row = call(look, api=api, key_id=key_id, key=key)
    what = f"{row['amount']} {row['asset']} from cold to {row['address']}"
    if not dry_run:
        say_twice(what, row["amount"], confirm_amount)
    path = f"{PATH}/{refill}/signed"
    answer = change(path, body, "signed", api=api, key_id=key_id, key=key)
    if as_json:
        show_json(answer)
        return
    signatures = answer["signatures"]
    if dry_run:
        show_line(f"checked {what}: {answer['new_signatures']} new signatures; nothing was stored")
    elif answer["new_signatures"] == 0:
        show_line("nothing new: these signatures were here already")
    if signatures["is_complete"]:
        then = "payouts would send it" if dry_run else "payouts send it"
        show_line(f"{refill}: every signature is there; {then}")
    else:
        had = ", ".join(signatures["signed_by"]) or "nobody"
        show_line(f"{refill}: signed by {had}; {signatures['needed']} keys must")
        show_line(f"waits for {', '.join(signatures['waits_for'])}")


@refill_app.command("cancel")
def cancel(
    refill: RefillArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    dry_run: DryRunOption = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take it back while its file waits for signatures; its coins are free again."""
    said = {"reason": reason, "dry_run": dry_run}
    path = f"{PATH}/{refill}/cancel"
    answer = change(path, said, "cancel", api=api, key_id=key_id, key=key)
    if as_json:
        show_json({**answer, "dry_run": dry_run})
    elif dry_run and answer["state"] != "cancelled":
        show_line(f"{refill} is {answer['state']} and would be cancelled; nothing was changed")
    else:
        show_line(f"{refill} is {answer['state']}; make sure that nobody signs its file any more")


@refill_app.command("status")
def status(
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refills, newest first."""

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        return await all_pages(client, PATH, {"direction": "cold_to_hot"})

    found = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": found})
        return
    names = ("id", "asset", "amount", "state", "code", "reason", "txid")
    head = ("refill", "asset", "amount>", "state", "code", "reason", "txid")
    show_table(head, [tuple(row[name] for name in names) for row in found])


def _show_file(answer: Mapping[str, Any]) -> None:
    signatures = answer["signatures"]
    show_line(f"pays {answer['amount']} {answer['asset']} to {answer['address']}")
    coins = f", {answer['coins']} coins, txid {answer['txid']}" if answer["coins"] else " at most"
    if answer["format"] == "safe":
        show_line(f"SafeTx hash {answer['safe_tx_hash']}; the hot wallet pays the fee")
    else:
        show_line(f"fee {answer['fee']}{coins}")
    show_line(f"{signatures['needed']} of these keys sign: {', '.join(signatures['waits_for'])}")
    show_line("compare amount and address on each device before it signs")


def _write(path: Path, data: bytes) -> None:
    """A new file, or the same bytes again; never over another one."""
    try:
        if path.exists() and path.read_bytes() != data:
            raise CliError(f"{path} exists and is another file", hint="give another name")
        path.write_bytes(data)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from error
    show_line(f"wrote {path}")


def _signed(path: Path) -> dict[str, str]:
    """The body of an upload, by what the file is."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", code=USAGE) from error
    if len(data) > FILE_BYTES_MAX:
        raise CliError(f"{path} is larger than any signed file", code=USAGE)
    if data.startswith(PSBT_MAGIC):
        return {"psbt": base64.b64encode(data).decode("ascii")}
    text = "".join(data.decode("ascii", errors="replace").split())
    try:
        if base64.b64decode(text, validate=True).startswith(PSBT_MAGIC):
            return {"psbt": text}
        bytes.fromhex(text.removeprefix("0x"))
    except (binascii.Error, ValueError) as error:
        raise CliError(
            f"{path} is neither a PSBT nor a finished transaction in hex",
            hint="export the signed file again from the wallet program",
            code=USAGE,
        ) from error
    is_signature = len(text.removeprefix("0x")) == 2 * SAFE_SIGNATURE_BYTES
    return {"signature" if is_signature else "tx": text}
