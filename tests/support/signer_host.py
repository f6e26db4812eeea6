"""The real signer process on a folder of its own: `python -m signer`, as operations use it."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from signer import admin, protocol
from signer.files import write_private
from signer.keyring import seal
from signer.ports import SystemClock
from signer.protocol import Refusal, SignedTx
from tests.support.sign_requests import authorise, evm_request, order_body, payment
from tests.support.vault import (
    FOREIGN_EVM,
    TEST_ENTROPY,
    CountingRandomness,
    client_key,
    new_folder,
    public_text,
    staff_key,
)

DEADLINE_SECONDS = 60
PASSPHRASE = b"a public test passphrase"


@dataclass(kw_only=True)
class Host:
    """A signer's host: its folder, staff key files and the running process."""

    folder: Path
    process: "subprocess.Popen[str] | None" = None
    environ: Mapping[str, str] | None = None

    def command(self, *arguments: str, expect: int = 0) -> str:
        """Run one command to its end; returns stdout, or stderr when it is meant to fail."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "signer",
                arguments[0],
                "--dir",
                str(self.folder),
                *arguments[1:],
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            env=self.environ,
        )
        assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done.stderr if expect else done.stdout

    def start(self) -> None:
        """Start the role and wait for its ready line."""
        with self.said.open("a") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "signer", "run", "--dir", str(self.folder)],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=self.environ,
            )
        self.process = process
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "signer ready"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process with a signal; returns its exit code."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        code = process.wait(DEADLINE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        self.process = None
        return code

    @property
    def said(self) -> Path:
        """What the role wrote beside its log."""
        return self.folder.with_name("said")

    @property
    def people(self) -> list[str]:
        """Options that sign as alice and bob."""
        return [f"--staff-key={name}={self.folder / name}.pem" for name in ("alice", "bob")]

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """One message to the payouts socket."""
        return admin.call(self.folder / "signer.sock", message)

    def sign(self, request: protocol.SignRequest) -> SignedTx | Refusal:
        """Ask for a signature."""
        return protocol.decode_sign_answer(self.ask(protocol.encode_sign_request(request)))


def new_host(parent: Path) -> Host:
    """A signer with the public test keys, and key files of two staff and one client."""
    folder = new_folder(parent)
    envelope = seal(
        TEST_ENTROPY,
        PASSPHRASE,
        randomness=CountingRandomness(),
        is_test=True,
        is_cheap=True,
    )
    write_private(folder / "keyring.json", envelope)
    write_private(folder / "passphrase", PASSPHRASE + b"\n")
    for name, key in (
        ("alice", staff_key("alice")),
        ("bob", staff_key("bob")),
        ("client", client_key()),
    ):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(folder / f"{name}.pem", pem)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return Host(folder=folder)


def trusted(host: Host) -> None:
    """Start it, register staff, trust the client."""
    host.start()
    now = SystemClock().now_seconds()
    staff = {name: public_text(staff_key(name)) for name in ("alice", "bob")}
    fields = {
        "keyid": "client-1",
        "public_key": public_text(client_key()),
        "brand": "acme",
        "caps": {"eth:ETH": {"tx": str(10**18), "day": str(10**19)}},
        "expires_at": now + 3_600,
    }
    for action, content in (("staff_add", {"staff": staff}), ("trust", fields)):
        text = admin.make_statement(action, signer="5436d724", issued_at=now, fields=content)
        people = {} if action == "staff_add" else {"alice": 1, "bob": 2}
        signatures = {name: admin.sign_statement(staff_key(name), text) for name in people}
        assert admin.submit(host.folder / "admin.sock", text, signatures)["ok"] is True


def trust_options(host: Host) -> list[str]:
    """What `trust` is told about the test client."""
    caps = [f"--cap=eth:ETH={10**18}:{10**19}"]
    key = f"--public-key={host.folder / 'client.pub'}"
    return ["--keyid=client-1", key, "--brand=acme", *caps]


def eth_request() -> protocol.SignRequest:
    """An order signed now, since the process has the real clock."""
    body = order_body(asset="eth:ETH", address=FOREIGN_EVM, valid_until=None)
    claim = authorise(body, created=SystemClock().now_seconds())
    return evm_request(payments=(payment(claim=claim),))
