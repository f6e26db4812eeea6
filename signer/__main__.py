"""The signer's composition root and command line: `python -m signer COMMAND --dir DIR`.

Exit codes (CONTRACT 2): 0 done, 1 failed, 2 usage or configuration, 3 refused by policy.
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from signer import commands
from signer.errors import ConfigurationError, SignerError
from signer.files import harden_process
from signer.logs import Log
from signer.ports import SystemClock, SystemRandomness
from signer.store import Store
from signer.trust import Trust
from signer.unlocking import unlocked_and_guarded
from signer.vault import Vault

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 1, 2, 3
YOUNG_MAX = 20_000  # objects
_WITH_RANDOMNESS = {
    "keys-init": commands.keys_init,
    "keys-export-xpubs": commands.keys_export_xpubs,
    "keys-collector": commands.keys_collector,
    "keys-backup": commands.keys_backup,
    "keys-restore": commands.keys_restore,
    "keys-rotate": commands.keys_rotate,
    "keys-token": commands.keys_token,
}
_WITH_CLOCK = {
    "staff-add": commands.staff_add,
    "trust": commands.trust,
    "revoke": commands.set_state,
    "pin": commands.pin,
    "unpin": commands.pin,
    "freeze": commands.set_state,
    "unfreeze": commands.set_state,
    "sign-statement": commands.sign_statement,
    "verify": commands.verify,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if sys.flags.optimize:
            raise ConfigurationError("python -O strips checks; run without it")
        harden_process()
        if arguments.command == "run":
            _run(arguments)
        elif arguments.command in _WITH_RANDOMNESS:
            text = _WITH_RANDOMNESS[arguments.command](arguments, SystemRandomness())
            sys.stdout.write(text + "\n")
        else:
            text = _WITH_CLOCK[arguments.command](arguments, SystemClock())
            sys.stdout.write(text + "\n")
    except SignerError as error:
        sys.stderr.write(f"signer: {error}\n")
        return _exit_code(error)
    except OSError as error:
        sys.stderr.write(f"signer: {error.filename}: {error.strerror}\n")
        return EXIT_FAILED
    return 0


def _exit_code(error: SignerError) -> int:
    if isinstance(error, commands.RefusedBySigner):
        return EXIT_REFUSED
    return EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED


def _run(arguments: argparse.Namespace) -> None:
    # The second derivation's library takes half a second to import; only this command needs it.
    from signer.pool import PoolVerifier
    from signer.server import SignerServer

    clock = SystemClock()
    log = Log(sys.stdout, clock)
    settings = commands.settings_of(arguments)
    keyring, guard = unlocked_and_guarded(arguments, settings, log)
    store = Store(settings.store, settings.anchor, fingerprint=keyring.fingerprint, clock=clock)
    try:
        server = SignerServer(
            settings=settings,
            vault=Vault(
                settings=settings,
                keyring=keyring,
                guard=guard,
                store=store,
                clock=clock,
                log=log,
            ),
            pool=PoolVerifier(keyring),
            trust=Trust(store=store, settings=settings, fingerprint=keyring.fingerprint),
            store=store,
            clock=clock,
            log=log,
        )
        _settle()
        asyncio.run(_serve(server.run, log))
    finally:
        store.close()


def _settle() -> None:
    """What lives now lives as long as the signer: no look for cycles walks through it again, and
    none comes before a question has made as many objects as one does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])


async def _serve(run: Callable[[Callable[[], None]], Coroutine[Any, Any, None]], log: Log) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(run(lambda: log.info("signer ready")))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="signer", description="The vault of Cage.")
    every = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        child = every.add_parser(name, help=text, description=text)
        child.add_argument("--dir", required=True, help="the folder of signer.toml")
        child.add_argument("--passphrase-fd", type=int, help="read the passphrase from this fd")
        child.add_argument("--pin-fd", type=int, help="read the token's PIN from this fd")
        return child

    command("run", "serve until SIGTERM")
    init = command("keys-init", "make new keys, an empty store and its anchor")
    init.add_argument(
        "--cheap", action="store_true", help="fast key derivation, test networks only"
    )
    init.add_argument(
        "--generate-passphrase", action="store_true", help="write the passphrase file"
    )
    export = command("keys-export-xpubs", "account-level public keys as JSON")
    export.add_argument("--accounts", type=int, default=8, help="highest account index")
    export.add_argument("--out", help="file to write instead of stdout")
    command("keys-collector", "address of the collector, and what creates it")
    backup = command("keys-backup", "copy the sealed key file")
    backup.add_argument("--out", required=True)
    backup.add_argument(
        "--portable-passphrase-file", help="mode 0600; opens the copy without the token"
    )
    backup.add_argument("--cheap", action="store_true", help="test networks only")
    restore = command("keys-restore", "put a sealed key file in place")
    restore.add_argument("--from", dest="source", required=True)
    restore.add_argument("--cheap", action="store_true", help="test networks only")
    rotate = command("keys-rotate", "seal the same keys under another passphrase")
    rotate.add_argument("--new-passphrase-file", required=True, help="mode 0600")
    rotate.add_argument("--cheap", action="store_true", help="test networks only")
    token = command("keys-token", "which token and key seal the key file")
    token.add_argument(
        "--destroy-unused", action="store_true", help="destroy the keys of older key files"
    )
    command("verify", "check the log's chain against the anchor")
    signing = command("sign-statement", "one person's signature over a statement file")
    signing.add_argument("--statement", required=True)
    signing.add_argument("--key", required=True, help="the person's PEM private key, mode 0600")
    _add_statements(command)
    return parser


def _add_statements(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    staff = command("staff-add", "register staff keys")
    staff.add_argument("--staff", action="append", required=True, metavar="NAME=KEY")
    trust = command("trust", "trust a client key (--keyid --brand --cap) or a person's (--person)")
    trust.add_argument("--keyid")
    trust.add_argument("--person", metavar="NAME", help="a further person of the staff")
    trust.add_argument("--public-key", required=True, help="base64 of 32 bytes, or a PEM file")
    trust.add_argument("--brand")
    trust.add_argument(
        "--cap", action="append", default=[], metavar="ASSET=TX:DAY", help="in minor units"
    )
    trust.add_argument("--expires-days", type=int, default=365)
    names = ("revoke", "freeze", "unfreeze")
    states = [command(name, f"{name} a client key, or a person's") for name in names]
    for child in states:
        child.add_argument("--keyid")
        child.add_argument("--person", metavar="NAME")
    for child in states[1:]:
        child.add_argument("--all", action="store_true", help="every signature of this signer")
    pins = [
        command("pin", "pin a cold address: hot value may go there after a day"),
        command("unpin", "take a pinned cold address back"),
    ]
    for child in pins:
        child.add_argument("network")
        child.add_argument("address")
    for child in (staff, trust, *states, *pins):
        child.add_argument("--staff-key", action="append", default=[], metavar="NAME=PEM")
        child.add_argument("--signature", action="append", default=[], metavar="NAME=FILE")
        child.add_argument("--statement", help="submit this statement file")
        child.add_argument("--out", help="write the statement here for signing; submit nothing")


if __name__ == "__main__":
    sys.exit(main())
