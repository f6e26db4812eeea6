"""`cage deposits`: `doctor` for support, `rescan` for what is missing, `release`, `reject` and
`refund` for compliance, and `verify`, offline, for anybody with a proof."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import deposit_decisions, deposit_doctor, rescans
from gateway.cli.console import FAILED, CliError, JsonOption, show_json, show_line, show_table

deposits_app = typer.Typer(no_args_is_help=True, help="Deposits.")


@deposits_app.callback()
def group() -> None:
    """Deposits."""


@deposits_app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="A proof: the answer of GET /v1/deposits/ID/proof.")],
    as_json: JsonOption = False,
) -> None:
    """Check a deposit proof from its own bytes: no node, no database, no configuration."""
    from gateway.cli import deposit_proof

    try:
        with file.open("rb") as stream:
            content = stream.read(deposit_proof.BUNDLE_BYTES_MAX + 1)
    except OSError as error:
        raise CliError(f"{file} cannot be read ({error.strerror})") from error
    checks = deposit_proof.verify(content)
    verified = deposit_proof.is_verified(checks)
    if as_json:
        rows = [{"name": c.name, "status": c.status.value, "detail": c.detail} for c in checks]
        show_json({"verified": verified, "checks": rows})
    else:
        show_table(("check", "status", "detail"), [(c.name, c.status, c.detail) for c in checks])
        failed = ", ".join(c.name for c in checks if c.status is deposit_proof.Status.FAILED)
        show_line(
            "verified; `told` is the operator's word"
            if verified
            else f"NOT verified: {failed or 'nothing was checked'}"
        )
    if not verified:
        raise typer.Exit(FAILED)


deposits_app.command("doctor")(deposit_doctor.doctor)
deposits_app.command("rescan")(rescans.rescan)
deposits_app.command("release")(deposit_decisions.release)
deposits_app.command("reject")(deposit_decisions.reject)
deposits_app.command("refund")(deposit_decisions.refund)


def mount(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(deposits_app, name="deposits")
