"""`cage deposits doctor TXID|ADDRESS|PLAYER`: why a deposit is or is not credited, for support.

A client of the API like every staff command. Exit code 0: what was found is credited or will be by
itself; 1: somebody has to do something, nothing was found, or nodes have not answered in time;
2 and 3 as everywhere.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import FAILED, JsonOption, note, show_json, show_line
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient

PATH = "/v1/deposits/doctor"
WAIT_SECONDS = 90.0  # the API gives up on a silent network after 60
POLL_SECONDS = 1.0
GOOD = frozenset({"credited", "waiting"})
MARKS = {"ok": "ok  ", "info": "note", "wait": "wait", "act": "ACT ", "alarm": "LOOK"}

_TXID = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)
_EVM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_SEGWIT = re.compile(r"(?:bc|tb|bcrt|ltc|tltc|rltc)1[02-9ac-hj-np-z]{11,71}", re.ASCII)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Kind(StrEnum):
    """What a subject is."""

    TXID = "txid"
    """Of a transaction, as the sender's wallet shows it."""
    ADDRESS = "address"
    """Where the coins were sent."""
    PLAYER = "player"
    """The casino's own player id."""


def kind_of(subject: str) -> Kind:
    """By its form alone: 64 hex digits are a txid; the forms of EVM and segwit addresses, and
    base58 with a right checksum, are addresses; all else is a player. Pure."""
    if _TXID.fullmatch(subject):
        return Kind.TXID
    is_one_case = subject in (subject.lower(), subject.upper())
    if _EVM.fullmatch(subject) or (is_one_case and _SEGWIT.fullmatch(subject.lower())):
        return Kind.ADDRESS
    return Kind.ADDRESS if _is_base58_address(subject) else Kind.PLAYER


def _is_base58_address(text: str) -> bool:
    """Version, 20 bytes and a checksum (Base58Check): no player id has that by chance."""
    if not 26 <= len(text) <= 35 or any(character not in _BASE58 for character in text):
        return False
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    if number.bit_length() > 25 * 8:
        return False
    data = number.to_bytes(25, "big")
    digest = hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()
    return digest[:4] == data[-4:]


def doctor(
    subject: Annotated[str, typer.Argument(metavar="TXID|ADDRESS|PLAYER")],
    kind: Annotated[
        Kind | None, typer.Option("--as", help="What it is; without it its form decides.")
    ] = None,
    brand: Annotated[
        str | None, typer.Option("--brand", help="For a player, and to see as one brand.")
    ] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a deposit is or is not credited, and what to do."""
    chosen = kind or kind_of(subject)
    name = "player_id" if chosen is Kind.PLAYER else chosen.value
    query = {name: subject} | ({} if brand is None else {"brand": brand})

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        return await _finished(client, await client.get(PATH, query), brand=brand)

    report = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json(report)
    else:
        _show(report)
    if report["verdict"] not in GOOD:
        raise typer.Exit(FAILED)


async def _finished(
    client: "StaffClient", report: Mapping[str, Any], *, brand: str | None
) -> Mapping[str, Any]:
    """Follow the link while nodes have not answered, at most WAIT_SECONDS."""
    ends_seconds = client.clock.monotonic_seconds() + WAIT_SECONDS
    told: set[str] = set()
    while report["verdict"] == "looking":
        waiting = {row["network"] for row in report["networks"] if row["state"] == "asked"}
        if waiting != told:
            note(f"asking the nodes of {', '.join(sorted(waiting))} ...")
            told = waiting
        if client.clock.monotonic_seconds() >= ends_seconds:
            break
        await client.clock.sleep(POLL_SECONDS)
        report = await client.get(report["link"], None if brand is None else {"brand": brand})
    return report


def _show(report: Mapping[str, Any]) -> None:
    show_line(_plain(f"{report['kind']} {report['subject']}: {report['verdict']}"))
    show_line(_plain(report["summary"]))
    _show_findings(report["findings"])
    for item in report["deposits"]:
        row = item["deposit"]
        show_line("")
        show_line(
            _plain(
                f"{row['id']}  {row['amount']} {row['asset']}  {row['state']}"
                f"  player {row['player_id']}  {row['txid']} {row['position']}"
            )
        )
        _show_findings(item["findings"])
        for posting in item["postings"]:
            show_line(_plain(f"  posting {posting['id']}  {posting['reference']}"))


def _show_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    for item in findings:
        who = "" if item["who"] == "nobody" else f"  [{item['who']}]"
        show_line(
            _plain(f"  {MARKS.get(item['severity'], '    ')} {item['text']}{who}{_eta(item)}")
        )
        if item["remedy"]:
            show_line(_plain(f"       {item['remedy']}"))


def _eta(item: Mapping[str, Any]) -> str:
    eta = item["eta"]
    if eta is None:
        return ""
    return f"  (about {_time(eta['p50_seconds'])}, nine of ten within {_time(eta['p90_seconds'])})"


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"


def _plain(text: str) -> str:
    """No control characters of an answer reach the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
