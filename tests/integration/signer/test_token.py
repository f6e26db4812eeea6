"""The signer on a hardware token: real processes on SoftHSM's PKCS#11 module, one token each."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from signer import admin, protocol
from signer.files import write_private
from signer.ports import SystemClock
from signer.protocol import Refusal, SignedTx
from tests.support.signer_host import (
    DEADLINE_SECONDS,
    PASSPHRASE,
    Host,
    eth_request,
    new_host,
    trusted,
)
from tests.support.tokens import LABEL, PIN, SoftToken, new_token
from tests.support.vault import FRESH_SIGNER_TOML, staff_key

INSIDE = """
import json, sys
from pathlib import Path
from pkcs11 import Attribute, PKCS11Error
from signer.pin import PinFile
from signer.settings import TokenSettings
from signer.token import open_token
folder = Path(sys.argv[1])
settings = TokenSettings(module=Path(sys.argv[2]), label="cage", serial="", pin_file=folder / "pin")
token = open_token(settings, PinFile(settings.pin_file), is_writing=True)
session = token._session
"""


@dataclass(kw_only=True)
class TokenHost(Host):
    """A signer's host with a token."""

    token: SoftToken

    @classmethod
    def of(cls, host: Host, token: SoftToken) -> "TokenHost":
        """A host whose settings name the token, and whose process finds it."""
        made = cls(folder=host.folder, environ=token.environ, token=token)
        made.configure()
        write_private(made.folder / "pin", PIN.encode() + b"\n")
        return made

    def configure(self, **changes: str) -> None:
        """Write the settings with the token, some values changed; an empty module leaves it out."""
        values = {"module": str(self.token.module), "label": LABEL, **changes}
        lines = [f'{name} = "{value}"' for name, value in values.items()]
        table = "\n".join(["[signer.token]", *lines, "", ""]) if values["module"] else ""
        text = FRESH_SIGNER_TOML.replace("[brands]", table + "[brands]", 1)
        (self.folder / "signer.toml").write_text(text, "utf-8")

    def rotate(self, name: str) -> str:
        """Seal the keys anew under a passphrase of this name."""
        new = self.folder / name
        write_private(new, f"a public passphrase: {name}\n".encode())
        return self.command("keys-rotate", f"--new-passphrase-file={new}", "--cheap")

    def inside(self, code: str) -> str:
        """What a program prints that is logged in to the token; `token` and `session` are there."""
        command = [sys.executable, "-c", INSIDE + code, str(self.folder), str(self.token.module)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environ, timeout=DEADLINE_SECONDS
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout.strip()

    def line(self, event: str) -> dict[str, object]:
        """The next line of the running signer's log with this event."""
        process = self.process
        assert process is not None
        assert process.stdout is not None
        for text in process.stdout:
            found: dict[str, object] = json.loads(text)
            if found["event"] == event:
                return found
        raise AssertionError(f"the log ended without {event}")

    def refused(self, request: protocol.SignRequest) -> str:
        """The code of a refused signature."""
        answer = self.sign(request)
        assert isinstance(answer, Refusal), answer
        return answer.code


@pytest.fixture
def host(token_tool: Path) -> Iterator[TokenHost]:
    """Keys that were in a file and came under a token by `keys-rotate`."""
    with TemporaryDirectory(prefix="sg") as parent:
        made = TokenHost.of(new_host(Path(parent)), new_token(Path(parent) / "token", token_tool))
        made.rotate("first")
        yield made
        if made.process is not None:
            made.stop(signal.SIGKILL)


def envelope(host: Host) -> dict[str, object]:
    """The key file's content."""
    content: dict[str, object] = json.loads((host.folder / "keyring.json").read_bytes())
    return content


def test_s12_keys_under_a_token_are_the_same_keys_and_sign_the_same_bytes(
    token_tool: Path,
) -> None:
    """The gateway sees no difference: addresses, attestation key and signatures stay."""
    with TemporaryDirectory(prefix="sg") as parent:
        plain = new_host(Path(parent))
        before = plain.command("keys-export-xpubs")
        trusted(plain)
        request = eth_request()
        answer = plain.sign(request)
        assert plain.stop() == 0
        made = TokenHost.of(plain, new_token(Path(parent) / "token", token_tool))
        assert "not sealed by the token" in made.command("run", expect=1)
        made.rotate("first")
        assert envelope(made)["version"] == 2
        assert made.command("keys-export-xpubs") == before
        made.start()
        assert made.sign(request) == answer
        assert made.stop() == 0


def test_s12_key_file_and_passphrase_are_worthless_without_the_token(
    host: TokenHost, token_tool: Path
) -> None:
    host.configure(module="")
    assert "sealed by a token" in host.command("run", expect=1)
    host.configure()
    stranger = new_token(host.folder.parent / "other", token_tool)
    host.environ = stranger.environ
    assert "does not hold the sealing key" in host.command("run", expect=1)
    host.environ = host.token.environ
    raw = envelope(host)
    sealed = bytearray(base64.b64decode(str(raw["ciphertext"])))
    sealed[0] ^= 1
    raw["ciphertext"] = base64.b64encode(sealed).decode()
    (host.folder / "keyring.json").write_text(json.dumps(raw), "utf-8")
    assert "altered file" in host.command("run", expect=1)


def test_s12_the_sealing_key_was_made_inside_and_cannot_leave(host: TokenHost) -> None:
    """The token itself refuses to give its value or to wrap it."""
    told = host.inside(
        f"""
key = next(iter(session.get_objects({{Attribute.ID: bytes.fromhex("{envelope(host)["key_id"]}")}})))
names = ("SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL", "EXTRACTABLE", "WRAP")
print(json.dumps([key[Attribute[name]] for name in names]))
for attempt in (lambda: key[Attribute.VALUE], lambda: key.wrap_key(key)):
    try:
        attempt()
    except (PKCS11Error, AttributeError) as error:
        print(type(error).__name__)
"""
    ).splitlines()
    assert json.loads(told[0]) == [True, True, True, True, False, False]
    assert told[1:] == ["AttributeSensitive", "AttributeError"]


def test_s12_a_key_that_could_leave_the_token_seals_nothing(host: TokenHost) -> None:
    told = host.inside(
        """
from pkcs11 import KeyType, MechanismFlag
from signer.errors import TokenError
use = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
for number, template in enumerate(({Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False})):
    key_id = bytes([number] * 16)
    session.generate_key(KeyType.AES, 256, id=key_id, store=True, capabilities=use,
                         template=template)
    try:
        token.key(key_id)
    except TokenError as error:
        print(error)
"""
    ).splitlines()
    assert len(told) == 2
    assert all("could leave the token" in line for line in told)


def test_s12_a_refused_pin_is_tried_once_and_never_by_the_next_start(host: TokenHost) -> None:
    """A supervisor's restarts would lock a real token."""
    (host.folder / "pin").write_bytes(b"a-wrong-pin\n")
    first = host.command("run", expect=1)
    assert first.count("\n") == 1
    assert "the token refused the PIN" in first
    for _ in range(2):
        again = host.command("run", expect=1)
        assert "refused this PIN before" in again
        assert "a-wrong-pin" not in again + first
    (host.folder / "pin").write_bytes(PIN.encode() + b"\n")
    host.start()
    assert host.stop() == 0


def test_s12_a_pin_file_that_others_may_read_or_too_short_is_not_tried(host: TokenHost) -> None:
    (host.folder / "pin").chmod(0o640)
    assert "mode 0600" in host.command("run", expect=1)
    (host.folder / "pin").chmod(0o600)
    (host.folder / "pin").write_bytes(b"123\n")
    assert "4 to 255 bytes" in host.command("run", expect=1)


def test_s13_the_pin_comes_by_a_descriptor_and_stands_nowhere(host: TokenHost) -> None:
    pin = (host.folder / "pin").rename(host.folder / "elsewhere")
    descriptor = os.open(pin, os.O_RDONLY)
    command = [sys.executable, "-m", "signer", "run", "--dir", str(host.folder)]
    process = subprocess.Popen(
        [*command, f"--pin-fd={descriptor}"],
        pass_fds=(descriptor,),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=host.environ,
    )
    os.close(descriptor)
    host.process = process
    host.line("signer ready")
    proc = Path(f"/proc/{process.pid}")
    assert PIN.encode() not in (proc / "cmdline").read_bytes()
    if os.geteuid() == 0:
        assert PIN.encode() not in (proc / "environ").read_bytes()
    assert host.stop() == 0


def test_s09_a_token_that_is_missing_at_the_start_ends_with_one_clear_line(
    host: TokenHost,
) -> None:
    host.configure(label="nobody")
    message = host.command("run", expect=1)
    assert message.count("\n") == 1
    assert "the token is not there" in message
    host.configure(serial="0000000000000000")
    assert "the token is not there" in host.command("run", expect=1)
    host.configure()
    host.token.store.rename(host.token.folder / "away")
    assert "token" in host.command("run", expect=1)
    (host.token.folder / "away").rename(host.token.store)
    host.token.add(LABEL)
    assert "set signer.token.serial" in host.command("run", expect=1)


def test_a_module_that_others_may_change_or_that_is_none_is_refused(host: TokenHost) -> None:
    copy = host.folder / "module.so"
    copy.write_bytes(host.token.module.read_bytes())
    copy.chmod(0o666)
    host.configure(module=str(copy))
    assert "only root or the signer's user may change" in host.command("run", expect=2)
    copy.write_bytes(b"no library")
    copy.chmod(0o600)
    assert "cannot be reached" in host.command("run", expect=1)
    host.configure(module=str(host.folder / "none.so"))
    assert "No such file" in host.command("run", expect=2)
    host.configure(module="libsofthsm2.so")
    assert "absolute path" in host.command("run", expect=2)
    host.configure(pin="1234")
    assert "unknown key 'pin'" in host.command("run", expect=2)


def test_s09_a_token_pulled_out_stops_every_answer_and_one_put_back_goes_on(
    host: TokenHost,
) -> None:
    """No signature, no stored answer, no statement; no crash; then the very same attempt."""
    trusted(host)
    request = eth_request()
    assert host.process is not None
    pid = host.process.pid
    host.token.store.rename(host.token.folder / "away")
    assert host.refused(request) == "token_unavailable"
    assert host.line("signer.token_lost")["level"] == "warning"
    with pytest.raises(protocol.ProtocolError, match="token_unavailable"):
        protocol.decode_lookup_answer(host.ask(protocol.encode_lookup_request("e-1")))
    item = protocol.AttestItem(brand="acme", player="player-1", path="m/44h/60h/1h/0/0")
    asked = protocol.AttestRequest(network="eth", items=(item,))
    attested = protocol.decode_attest_answer(host.ask(protocol.encode_attest_request(asked)))
    assert isinstance(attested, Refusal)
    assert attested.code == "token_unavailable"
    head = protocol.decode_head_answer(host.ask(protocol.encode_head_request()))
    assert isinstance(head, protocol.Head)
    (host.token.folder / "away").rename(host.token.store)
    assert isinstance(host.sign(request), SignedTx)
    host.line("signer.token_back")
    assert host.process.pid == pid
    assert json.loads(host.command("verify"))["first_bad"] is None


def test_s09_another_token_with_the_same_label_is_not_taken_for_it(
    host: TokenHost, token_tool: Path
) -> None:
    trusted(host)
    request = eth_request()
    stranger = new_token(host.folder.parent / "other", token_tool)
    host.token.store.rename(host.token.folder / "away")
    stranger.store.rename(host.token.store)
    assert host.refused(request) == "token_unavailable"
    assert "does not hold the sealing key" in str(host.line("signer.token_lost")["reason"])


def test_s16_a_token_that_hangs_signs_nothing_and_a_freeze_still_works(host: TokenHost) -> None:
    """A read of the token's files that never ends stands for an HSM behind a dead network."""
    trusted(host)
    request = eth_request()
    generation = host.token.files / "generation"
    aside = generation.rename(host.folder / "generation")
    os.mkfifo(generation)
    assert host.refused(request) == "token_unavailable"
    assert host.line("signer.token_lost")["reason"] == "the token does not answer"
    assert host.refused(request) == "token_unavailable"
    text = admin.make_statement(
        "halt", signer="5436d724", issued_at=SystemClock().now_seconds(), fields={}
    )
    signature = admin.sign_statement(staff_key("alice"), text)
    answer = admin.submit(host.folder / "admin.sock", text, {"alice": signature})
    assert answer["ok"] is True
    writer = os.open(generation, os.O_RDWR)  # the read that hangs goes on
    os.write(writer, aside.read_bytes())
    aside.rename(generation)
    os.close(writer)
    assert host.refused(request) == "halted"


def test_a_signer_whose_token_hangs_still_ends_when_told(host: TokenHost) -> None:
    trusted(host)
    generation = host.token.files / "generation"
    generation.unlink()
    os.mkfifo(generation)
    assert host.refused(eth_request()) == "token_unavailable"
    assert host.stop() == 0


def test_keys_are_made_backed_up_and_restored_with_a_token(token_tool: Path) -> None:
    """Init by the token; a copy for this token; a portable one for the day when it breaks."""
    with TemporaryDirectory(prefix="sg") as parent:
        folder = Path(parent) / "s"
        folder.mkdir()
        first = new_token(Path(parent) / "token", token_tool)
        fresh = TokenHost.of(Host(folder=folder), first)
        made = json.loads(fresh.command("keys-init", "--generate-passphrase", "--cheap"))
        exported = fresh.command("keys-export-xpubs")
        copy, portable = folder / "copy.json", folder / "portable.json"
        fresh.command("keys-backup", f"--out={copy}")
        own = f"--portable-passphrase-file={folder / 'passphrase'}"
        message = fresh.command("keys-backup", f"--out={portable}", own, expect=2)
        assert "a passphrase of its own" in message
        write_private(folder / "paper", b"a public portable passphrase\n")
        own = f"--portable-passphrase-file={folder / 'paper'}"
        fresh.command("keys-backup", f"--out={portable}", own, "--cheap")
        assert stat.S_IMODE(portable.stat().st_mode) == 0o600
        (folder / "keyring.json").unlink()
        restored = json.loads(fresh.command("keys-restore", f"--from={copy}"))
        assert restored == {**made, "store": True}
        assert "already" in fresh.command("keys-restore", f"--from={copy}", expect=2)
        # The token breaks: another one takes its place.
        (folder / "keyring.json").unlink()
        second = new_token(Path(parent) / "second", token_tool)
        fresh.environ = second.environ
        message = fresh.command("keys-restore", f"--from={copy}", expect=1)
        assert "does not hold the sealing key" in message
        message = fresh.command("keys-restore", f"--from={portable}", expect=1)
        assert "wrong passphrase" in message
        (folder / "paper").replace(folder / "passphrase")
        restored = json.loads(fresh.command("keys-restore", f"--from={portable}", "--cheap"))
        assert restored == {**made, "store": True}
        assert envelope(fresh)["version"] == 2
        assert fresh.command("keys-export-xpubs") == exported
        fresh.start()
        assert fresh.stop() == 0


def test_a_rotation_leaves_the_old_key_until_it_is_destroyed_by_command(host: TokenHost) -> None:
    """A backup from before opens with its passphrase until then, and never after."""
    old_key, old_passphrase = envelope(host)["key_id"], (host.folder / "passphrase").read_bytes()
    backup = host.folder / "backup.json"
    host.command("keys-backup", f"--out={backup}")
    host.rotate("second")
    told = json.loads(host.command("keys-token"))
    assert told["key"] == envelope(host)["key_id"] != old_key
    assert (told["unused"], told["destroyed"]) == ([old_key], [])
    assert told["token"]["label"] == LABEL
    assert json.loads(host.command("keys-token", "--destroy-unused"))["destroyed"] == [old_key]
    assert json.loads(host.command("keys-token"))["unused"] == []
    host.start()
    assert host.stop() == 0
    (host.folder / "keyring.json").unlink()
    (host.folder / "passphrase").write_bytes(old_passphrase)
    message = host.command("keys-restore", f"--from={backup}", expect=1)
    assert "does not hold the sealing key" in message


def test_a_rotation_that_was_killed_between_its_files_goes_on(host: TokenHost) -> None:
    old = (host.folder / "passphrase").read_bytes()
    host.rotate("second")
    (host.folder / "passphrase").write_bytes(old)
    assert "wrong passphrase" in host.command("run", expect=1)
    host.command("keys-rotate", f"--new-passphrase-file={host.folder / 'second'}", "--cheap")
    host.start()
    assert host.stop() == 0


def test_keys_token_without_a_token_says_so(host: TokenHost) -> None:
    host.configure(module="")
    assert "signer.token: is not set" in host.command("keys-token", expect=2)
    assert PASSPHRASE not in (host.folder / "keyring.json").read_bytes()
