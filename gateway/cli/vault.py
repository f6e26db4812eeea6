"""`cage signer ...` and `cage keys ...`: both become `python -m signer`, on the signer's host only.

The vault is an island: this module starts it as a program and imports nothing of it.
"""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import ConfigOption, become, settings_of

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
DirOption = Annotated[
    Path | None,
    typer.Option("--dir", help="The folder of signer.toml; else that of signer.socket."),
]

signer_app = typer.Typer(
    no_args_is_help=True, help="The vault and its register of trusted keys. On its host only."
)
keys_app = typer.Typer(no_args_is_help=True, help="Key files of the vault. On its host only.")


def _signer(
    command: str, context: typer.Context, *, folder: Path | None, config: Path | None
) -> None:
    if folder is None:
        settings = settings_of(config)
        folder = settings.path(settings.signer.socket).parent
    become("signer", command, "--dir", str(folder), *context.args)


def _add(app: typer.Typer, name: str, command: str, text: str) -> None:
    """Register `cage ... name` for `python -m signer command`; further words go through."""

    def run(
        context: typer.Context, directory: DirOption = None, config: ConfigOption = None
    ) -> None:
        _signer(command, context, folder=directory, config=config)

    run.__doc__ = text
    app.command(name, context_settings=PASS_THROUGH)(run)


for _name, _text in {
    "run": "Serve until SIGTERM.",
    "trust": "Trust a client key: --keyid --public-key --brand --cap ASSET=TX:DAY; or a person's: "
    "--person --public-key. Two signatures.",
    "revoke": "Revoke a key: --keyid of a client or --person, one signature.",
    "freeze": "Freeze a key (--keyid, --person) or the whole signer (--all), one signature.",
    "unfreeze": "Unfreeze a key (--keyid, --person) or the whole signer (--all), two signatures.",
    "pin": "Pin a cold address: NETWORK ADDRESS. Two signatures; it counts a day later.",
    "unpin": "Take a pinned cold address back: NETWORK ADDRESS. One signature.",
    "verify": "Check the log's chain against the anchor.",
    "staff-add": "Register people's public keys: --staff NAME=KEY.",
    "sign-statement": "One person's signature over a statement: --statement --key.",
}.items():
    _add(signer_app, _name, _name, _text)

for _name, _text in {
    "init": "Make new keys, an empty store and its anchor.",
    "export-xpubs": "Account-level public keys as JSON; --out FILE.",
    "collector": "Address of the collector of token sweeps, and the tx that creates it.",
    "backup": "Copy the sealed key file; --out FILE, --portable-passphrase-file FILE.",
    "restore": "Put a sealed key file in place; --from FILE.",
    "token": "Which hardware token and key seal the key file; --destroy-unused.",
    "rotate": "Seal the same keys under another passphrase; --new-passphrase-file FILE.",
}.items():
    _add(keys_app, _name, f"keys-{_name}", _text)


def mount(app: typer.Typer) -> None:
    """Add both groups to the program."""
    app.add_typer(signer_app, name="signer")
    app.add_typer(keys_app, name="keys")
