"""`cage audit list | verify`: who changed what, and whether anybody changed the log since.

`verify` computes every hash itself from what the API tells, or from a file of an earlier export
with no API at all. Heads written down outside the database are held against both chains.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.care import whole_file
from gateway.cli.console import (
    FAILED,
    USAGE,
    CliError,
    JsonOption,
    note,
    show_json,
    show_line,
    show_table,
)
from gateway.cli.staff_api import PAGE, ApiOption, KeyFileOption, KeyIdOption, call, pages

if TYPE_CHECKING:
    from gateway.anchors import Anchor
    from gateway.cli.client import StaffClient

LIST_ROWS = 100
CHAIN = "/v1/audit/chain"

audit_app = typer.Typer(no_args_is_help=True, help="Who changed what.")


@audit_app.command("list")
def list_rows(
    actor: Annotated[str | None, typer.Option(help="A person, a key, role:NAME.")] = None,
    action: Annotated[str | None, typer.Option(help="Its beginning: switch., approval.")] = None,
    subject: Annotated[str | None, typer.Option(help="Any part of it: an object's id.")] = None,
    correlation: Annotated[str | None, typer.Option(help="X-Request-Id of a call.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339.")] = None,
    brand: Annotated[str | None, typer.Option(help="Only this brand's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Newest rows.")] = LIST_ROWS,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest changes that match."""
    given = {
        "actor": actor,
        "action": action,
        "subject": subject,
        "correlation": correlation,
        "from": since,
        "to": until,
        "brand": brand,
    }
    query = {name: value for name, value in given.items() if value is not None}

    async def work(client: "StaffClient") -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        async for page in pages(client, "/v1/audit", query, limit=str(min(limit, int(PAGE)))):
            rows += page["items"]
            if len(rows) >= limit:
                break
        return rows[:limit]

    rows = call(work, api=api, key_id=key_id, key=key)
    if as_json:
        show_json({"items": rows})
        return
    table = [
        (
            row["sequence"],
            row["at"],
            row["actor"],
            row["action"],
            row["subject"],
            row["brand"],
            row["reason"],
        )
        for row in rows
    ]
    show_table(("seal>", "at", "actor", "action", "subject", "brand", "reason"), table)


@audit_app.command("verify")
def verify(
    file: Annotated[
        Path | None, typer.Option("--file", help="An export of --out instead of the API.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep what was read, one record a line.")] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="Heads that were told earlier, outside the database.")
    ] = None,
    remember: Annotated[
        bool, typer.Option("--remember", help="Add the heads that were found to --anchors.")
    ] = False,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every hash computed anew. Exit 1 with the first record that does not hold."""
    if remember and (anchors is None or file is not None):
        raise CliError("--remember takes --anchors, and not --file", code=USAGE)
    known = None if anchors is None else _known(anchors, is_new_allowed=remember)
    if file is not None:
        answer = _verify_file(file, known)
    else:
        with nullcontext() if out is None else whole_file(out) as stream:
            answer = call(
                lambda client: _verify_api(client, known, stream),
                api=api,
                key_id=key_id,
                key=key,
            )
    if remember and anchors is not None and answer["verified"]:
        _remember(anchors, answer)
    if as_json:
        show_json(answer)
    else:
        _show(answer)
    if not answer["verified"]:
        raise typer.Exit(FAILED)


async def _verify_api(
    client: "StaffClient", known: "Anchor | None", out: IO[str] | None
) -> dict[str, Any]:
    walk = _Walk(known)
    while True:
        query = {"after": str(walk.check.sequence), "limit": PAGE}
        items = (await client.get(CHAIN, query))["items"]
        for item in items:
            if out is not None:
                out.write(json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n")
        if not items or not walk.take(items):
            break
    tail = await client.get("/v1/audit/tail")
    journal = None
    if known is not None and known.journal.sequence:
        journal = await _journal_seal(client, known.journal.sequence)
    return walk.answer(tail=tail, journal=journal)


async def _journal_seal(client: "StaffClient", sequence: int) -> str:
    from gateway.client import ClientProblem

    try:
        return str((await client.get(f"/v1/ledger/seals/{sequence}"))["hash"])
    except ClientProblem as error:
        if error.status != 404:
            raise
        return ""


def _verify_file(file: Path, known: "Anchor | None") -> dict[str, Any]:
    walk = _Walk(known)
    try:
        with file.open(encoding="utf-8") as stream:
            for line in stream:
                if not walk.take([json.loads(line)]):
                    break
    except (OSError, ValueError) as error:
        raise CliError(f"{file} is no export of the audit log ({error})") from error
    return walk.answer(tail=None, journal=None)


class _Walk:
    """One walk through the chain, and what was known of it before."""

    def __init__(self, known: "Anchor | None") -> None:
        from gateway.audit_chain import ChainCheck

        self.check: ChainCheck = ChainCheck()
        self._known = known
        self._met: str | None = None
        self._broken: dict[str, Any] | None = None

    def take(self, items: list[Mapping[str, Any]]) -> bool:
        """The next records; False once one does not hold."""
        from gateway.audit_chain import BrokenChain

        try:
            for item in items:
                self.check.add(item)
                if self._known is not None and self.check.sequence == self._known.audit.sequence:
                    self._met = self.check.hash
        except BrokenChain as error:
            self._broken = {"sequence": error.sequence, "reason": error.reason}
        return self._broken is None

    def answer(self, *, tail: Mapping[str, Any] | None, journal: str | None) -> dict[str, Any]:
        """What was found. `journal`: the hash that stands where the anchor knew one."""
        missing: list[str] = []
        known = self._known
        if known is not None and self._broken is None:
            if known.audit.sequence and self._met != known.audit.hash:
                missing.append(f"audit seal {known.audit.sequence} of {known.at}")
            if journal is not None and journal != known.journal.hash:
                missing.append(f"journal seal {known.journal.sequence} of {known.at}")
        lost = tail["lost"] if tail else 0
        return {
            "verified": self._broken is None and not missing and not lost,
            "records": self.check.sequence,
            "hash": self.check.hash,
            "first_broken": self._broken,
            "anchors_gone": missing,
            "lost": lost,
            "unsealed": tail["waiting"] if tail else None,
            "oldest_unsealed_at": tail["oldest_waiting_at"] if tail else None,
            "journal": tail["journal"] if tail else None,
        }


def _show(answer: Mapping[str, Any]) -> None:
    show_line(f"records {answer['records']}, head {answer['hash']}")
    if answer["unsealed"] is not None:
        since = f" since {answer['oldest_unsealed_at']}" if answer["unsealed"] else ""
        show_line(f"not sealed yet: {answer['unsealed']}{since}")
    if answer["first_broken"]:
        broken = answer["first_broken"]
        show_line(f"first broken record: {broken['sequence']}: {broken['reason']}")
    for text in answer["anchors_gone"]:
        show_line(f"told earlier and gone: {text}")
    if answer["lost"]:
        show_line(f"rows that nobody sealed: {answer['lost']}; they were put in by hand")
    show_line("verified" if answer["verified"] else "NOT verified")


def _known(path: Path, *, is_new_allowed: bool) -> "Anchor | None":
    from gateway import anchors

    try:
        found = anchors.newest(path)
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read as anchors ({error})") from error
    if found is None and not is_new_allowed:
        raise CliError(f"{path} holds no anchor", hint="--remember begins one", code=USAGE)
    return found


def _remember(path: Path, answer: Mapping[str, Any]) -> None:
    from config.clock import SystemClock
    from gateway import anchors
    from gateway.anchors import Anchor, Head
    from gateway.api.wire_base import rfc3339
    from ledger.chain_of_seals import GENESIS_HASH

    journal = answer["journal"]
    anchor = Anchor(
        at=rfc3339(SystemClock().now()),
        audit=Head(sequence=answer["records"], hash=answer["hash"]),
        journal=Head(sequence=journal["sequence"], hash=journal["hash"] or GENESIS_HASH),
    )
    try:
        anchors.append(path, anchor)
    except OSError as error:
        raise CliError(f"{path} cannot be written ({error.strerror})") from error
    note(f"remembered in {path}")


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(audit_app, name="audit")
