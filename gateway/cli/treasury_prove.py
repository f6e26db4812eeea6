"""`cage treasury prove`: make a proof of reserves and write its bundle, or verify one offline."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from gateway.cli.staff_api import ApiOption, KeyFileOption, KeyIdOption, call

if TYPE_CHECKING:
    from gateway.cli.client import StaffClient
    from gateway.cli.deposit_proof import Check

POLL_SECONDS = 0.5
WAIT_SECONDS = 1_200.0  # a network that does not answer fails the proof after 15 minutes


def prove(
    out: Annotated[
        Path | None, typer.Option("--out", help="Make a proof and write its bundle here.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", help="Check a bundle, or a player's inclusion, offline."),
    ] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option("--public-key", help="The operator's attestation key, base64: --verify."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option("--node", help="NETWORK=URL of your own node: --verify asks it, too."),
    ] = None,
    api: ApiOption = None,
    key_id: KeyIdOption = None,
    key: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is owed as a tree that adds up, what is held by address, one signed statement."""
    if (out is None) == (verify is None):
        raise CliError("give either --out FILE or --verify FILE", code=USAGE)
    if verify is not None:
        _verify(verify, public_key or [], node or [], as_json=as_json)
    elif out is not None:
        _make(out, api=api, key_id=key_id, key=key, as_json=as_json)


def _make(
    out: Path, *, api: str | None, key_id: str | None, key: Path | None, as_json: bool
) -> None:
    if out.exists():
        raise CliError(f"{out} exists", hint="name a new file", code=USAGE)

    async def work(client: "StaffClient") -> Mapping[str, Any]:
        made = await client.post("/v1/proofs", {}, idempotency_key=client.new_key("prove"))
        note(f"{made['id']}: every network is asked")
        async with asyncio.timeout(WAIT_SECONDS):
            while made["state"] not in ("done", "failed"):
                await client.clock.sleep(POLL_SECONDS)
                found = await client.get(f"/v1/proofs/{made['id']}", {})
                if found["state"] != made["state"]:
                    note(f"{made['id']}: {found['state']}")
                made = found
        if made["state"] == "failed":
            raise CliError(f"{made['id']} failed: {made['reason']}")
        return await client.get(f"/v1/proofs/{made['id']}/bundle", {})

    try:
        bundle = call(work, api=api, key_id=key_id, key=key)
    except TimeoutError as error:
        raise CliError(
            "the proof is not done yet", hint="is payouts running, and the signer?"
        ) from error
    content = json.dumps(bundle, indent=1)
    with whole_file(out) as stream:
        stream.write(content)
    _judge(content.encode("utf-8"), [], [], as_json=as_json, name=str(out))


def _verify(file: Path, public_keys: list[str], nodes: list[str], *, as_json: bool) -> None:
    from gateway.cli import reserves_proof

    try:
        pinned = [base64.b64decode(text, validate=True) for text in public_keys]
    except binascii.Error as error:
        raise CliError("--public-key: base64 of 32 bytes is required", code=USAGE) from error
    try:
        with file.open("rb") as stream:
            content = stream.read(reserves_proof.DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise CliError(f"{file} cannot be read ({error.strerror})") from error
    asked = [tuple(text.split("=", 1)) for text in nodes]
    if any(len(pair) != 2 for pair in asked):
        raise CliError("--node: NETWORK=URL is required", code=USAGE)
    _judge(content, pinned, asked, as_json=as_json, name=str(file))


def _asked(content: bytes, nodes: list[tuple[str, ...]]) -> "list[Check]":
    """What the reader's own nodes say of a bundle whose arithmetic holds."""
    from config.clock import SystemClock
    from gateway.cli import reserves_nodes, reserves_proof

    async def work() -> "list[Check]":
        document = reserves_proof.read(content)
        return [
            await reserves_nodes.ask(document, network, url, clock=SystemClock())
            for network, url in nodes
        ]

    return asyncio.run(work())


def _judge(
    content: bytes,
    pinned: list[bytes],
    nodes: list[tuple[str, ...]],
    *,
    as_json: bool,
    name: str,
) -> None:
    from gateway.cli import reserves_proof
    from gateway.cli.deposit_proof import Status

    verdict = reserves_proof.verify(content, pinned=pinned)
    if nodes and verdict.is_covered is not None and verdict.is_verified:
        verdict = replace(verdict, checks=(*verdict.checks, *_asked(content, nodes)))
    short = reserves_proof.shortfalls(content) if verdict.is_verified else {}
    if as_json:
        rows = [
            {"name": c.name, "status": c.status.value, "detail": c.detail} for c in verdict.checks
        ]
        show_json(
            {
                "file": name,
                "verified": verdict.is_verified,
                "covered": verdict.is_covered,
                "shortfalls": {asset: str(minor) for asset, minor in short.items()},
                "checks": rows,
            }
        )
    else:
        show_table(
            ("check", "status", "detail"), [(c.name, c.status, c.detail) for c in verdict.checks]
        )
        if not verdict.is_verified:
            failed = [c.name for c in verdict.checks if c.status is Status.FAILED]
            show_line(f"NOT verified: {', '.join(failed)}")
        elif short:
            missing = ", ".join(f"{asset} {minor}" for asset, minor in short.items())
            show_line(f"verified, and it says that this is MISSING (minor units): {missing}")
        elif verdict.is_covered:
            show_line("verified: what is owed is covered; `told` is the operator's word")
        else:
            show_line("verified: it is in what the operator says that it owes")
    if not verdict.is_verified or verdict.is_covered is False:
        raise typer.Exit(FAILED)
