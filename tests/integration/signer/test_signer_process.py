"""The real process on real sockets: `python -m signer`, as operations and payouts use it."""

import asyncio
import base64
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from embit import bip32

from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.signer_client import SignerClient
from signer import admin, protocol
from signer.errors import SignerError
from signer.files import write_private
from signer.keyring import keyring_from_entropy, seal
from signer.paths import parse_path
from signer.ports import SystemClock
from signer.protocol import PoolRow, Refusal, SignedTx
from signer.settings import load_settings
from signer.store import Store
from tests.support.sign_requests import authorise, evm_payload, evm_request, order_body, payment
from tests.support.signer_host import (
    DEADLINE_SECONDS,
    PASSPHRASE,
    Host,
    eth_request,
    new_host,
    trust_options,
    trusted,
)
from tests.support.vault import (
    FOREIGN_EVM,
    FRESH_SIGNER_TOML,
    SIGNER_TOML,
    TEST_ENTROPY,
    CountingRandomness,
    HandClock,
)


@pytest.fixture
def host() -> Iterator[Host]:
    """A signer with the public test keys; a short path for sockets."""
    with TemporaryDirectory(prefix="sg") as parent:
        made = new_host(Path(parent))
        yield made
        if made.process is not None:
            made.stop(signal.SIGKILL)


def test_signer_signs_over_its_socket_and_survives_kill_9(host: Host) -> None:
    """The same attempt after kill -9 and a restart: the same bytes."""
    trusted(host)
    request = eth_request()
    answer = host.sign(request)
    assert isinstance(answer, SignedTx), answer
    assert host.stop(signal.SIGKILL) == -signal.SIGKILL
    assert json.loads(host.command("verify"))["first_bad"] is None  # reads what was appended
    host.start()
    assert host.sign(request) == answer
    found = protocol.decode_lookup_answer(host.ask(protocol.encode_lookup_request("e-1")))
    assert found == answer
    head = protocol.decode_head_answer(host.ask(protocol.encode_head_request()))
    assert isinstance(head, protocol.Head)
    assert (head.fingerprint, head.version) == ("5436d724", 1)
    assert head.sequence >= answer.log_sequence
    none = protocol.decode_lookup_answer(host.ask(protocol.encode_lookup_request("e-9")))
    assert none is None
    assert json.loads(host.command("verify"))["first_bad"] is None
    assert host.stop() == 0


def test_p35_a_peer_that_is_connected_when_the_signer_stops_leaves_nothing_but_its_log(
    host: Host,
) -> None:
    """SIGTERM between two questions of one connection."""
    host.start()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.connect(str(host.folder / "signer.sock"))
        peer.sendall(protocol.frame(protocol.encode_head_request()))
        assert peer.recv(1)  # answered: it waits for the next one
        assert host.stop() == 0
    assert host.said.read_text() == ""


def lot_request(number: int) -> protocol.SignRequest:
    """One of several orders, each at a nonce of its own."""
    name = f"lot-{number}"
    words = {"asset": "eth:ETH", "address": FOREIGN_EVM, "amount": "0.001", "request_id": name}
    body = order_body(**words, valid_until=None)
    claim = authorise(body, created=SystemClock().now_seconds(), nonce=name)
    payload = evm_payload(nonce=number, value=10**15)
    paid = (payment(claim=claim, request_id=name),)
    return evm_request(attempt_id=name, payload=payload, payments=paid)


def test_a_lot_is_signed_over_the_socket_and_survives_kill_9(host: Host) -> None:
    """By the gateway's own client; a lot that is no lot is refused as a whole."""
    trusted(host)
    client = SignerClient(host.folder / "signer.sock", timeout_seconds=DEADLINE_SECONDS)
    asked = [lot_request(number) for number in range(3)]

    answers = asyncio.run(client.sign_many(asked))

    assert [type(answer) for answer in answers] == [SignedTx] * 3
    assert host.stop(signal.SIGKILL) == -signal.SIGKILL
    host.start()
    assert asyncio.run(client.sign_many(asked)) == answers
    with pytest.raises(SignerUnavailable, match="bad_request"):
        asyncio.run(client.sign_many([]))
    assert json.loads(host.command("verify"))["first_bad"] is None


def test_s01_unknown_client_is_refused_over_the_socket(host: Host) -> None:
    host.start()
    answer = host.sign(eth_request())
    assert isinstance(answer, Refusal)
    assert answer.code == "unknown_key"


def test_s21_second_process_on_the_same_keys_ends_with_an_error(host: Host) -> None:
    host.start()
    assert "another signer runs" in host.command("run", expect=1)


def test_trust_takes_two_people_on_the_host(host: Host) -> None:
    host.start()
    staff = [f"--staff={name}={host.folder / name}.pub" for name in ("alice", "bob")]
    host.command("staff-add", *staff)
    options = trust_options(host)
    assert "needs_staff" in host.command("trust", *options, expect=3)
    assert "needs_staff" in host.command("trust", *options, host.people[0], expect=3)
    host.command("trust", *options, *host.people)
    host.command("freeze", "--keyid=client-1", host.people[1])
    answer = host.sign(eth_request())
    assert isinstance(answer, Refusal)
    assert answer.code == "key_not_trusted"
    host.command("unfreeze", "--keyid=client-1", *host.people)
    host.command("revoke", "--keyid=client-1", host.people[0])
    assert json.loads(host.command("verify"))["entries"] >= 7


def test_statement_may_be_signed_elsewhere(host: Host) -> None:
    """Written to a file, signed by two people on their own machines, then submitted."""
    host.start()
    staff = [f"--staff={name}={host.folder / name}.pub" for name in ("alice", "bob")]
    host.command("staff-add", *staff)
    text = host.folder / "statement"
    options = trust_options(host)
    host.command("trust", *options, f"--out={text}")
    signatures = []
    for name in ("alice", "bob"):
        key = f"--key={host.folder / name}.pem"
        signed = host.command("sign-statement", f"--statement={text}", key)
        path = host.folder / f"{name}.sig"
        path.write_text(signed, "utf-8")
        signatures.append(f"--signature={name}={path}")
    host.command("trust", *options, f"--statement={text}", *signatures)


def test_pool_rows_are_rederived_over_the_socket(host: Host) -> None:
    host.start()
    network = load_settings(host.folder, own_uid=0).networks["btc"]
    ring = keyring_from_entropy(TEST_ENTROPY)
    paths = [f"m/84h/1h/1h/0/{index}" for index in range(20)]
    rows = [PoolRow(path=p, address=ring.address(parse_path(p, network), network)) for p in paths]
    rows[7] = PoolRow(path=rows[7].path, address=rows[8].address)
    message = protocol.encode_verify_request(network="btc", rows=rows)
    agreed = protocol.decode_verify_answer(host.ask(message))
    assert agreed == tuple(index != 7 for index in range(20))
    unknown = protocol.encode_verify_request(network="doge", rows=rows)
    refused = protocol.decode_verify_answer(host.ask(unknown))
    assert isinstance(refused, Refusal)


def test_s13_no_secret_in_the_environment_arguments_or_core_dumps(host: Host) -> None:
    host.start()
    assert host.process is not None
    proc = Path(f"/proc/{host.process.pid}")
    limits = (proc / "limits").read_text("utf-8")
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert PASSPHRASE not in (proc / "cmdline").read_bytes()
    if os.geteuid() == 0:
        assert PASSPHRASE not in (proc / "environ").read_bytes()
    else:  # not dumpable: not even its own user may read it
        with pytest.raises(PermissionError):
            (proc / "environ").read_bytes()
    assert (host.folder / "signer.sock").stat().st_mode & 0o777 == 0o600
    assert (host.folder / "admin.sock").stat().st_mode & 0o777 == 0o600
    assert (host.folder / "signer.sqlite").stat().st_mode & 0o777 == 0o600


def test_s14_peer_of_another_user_is_refused(host: Host) -> None:
    """The list names another user than the one who calls."""
    text = SIGNER_TOML.replace("[signer]", f"[signer]\npeer_uids = [{os.geteuid() + 1}]", 1)
    (host.folder / "signer.toml").write_text(text, "utf-8")
    host.start()
    answer = protocol.decode_head_answer(host.ask(protocol.encode_head_request()))
    assert isinstance(answer, Refusal)
    assert answer.code == "unknown_peer"


def test_s20_malformed_frames_do_not_stop_the_server(host: Host) -> None:
    host.start()

    async def send(data: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(host.folder / "signer.sock")
            writer.write(data)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    for data in (
        b"\0\0\0\x02[]",
        b"\0\0\0\x09{}",
        b"\xff\xff\xff\xff",
        protocol.frame({"op": "drain"}),
        protocol.frame({"op": "sign"}),
        protocol.frame({"op": "verify_addresses"}),
    ):
        assert b'"code":"bad_request"' in asyncio.run(send(data))
    assert asyncio.run(send(b"")) == b""
    assert isinstance(
        protocol.decode_head_answer(host.ask(protocol.encode_head_request())), protocol.Head
    )


def test_admin_socket_refuses_what_it_does_not_know(host: Host) -> None:
    host.start()
    path = host.folder / "admin.sock"
    assert admin.call(path, {"op": "sign"})["code"] == "bad_request"
    assert admin.call(path, {"op": "statement"})["code"] == "bad_request"
    assert admin.call(path, {"op": "verify"})["first_bad"] is None


def test_keys_are_made_exported_backed_up_and_restored(host: Host) -> None:
    """A fresh folder: init, export, backup, loss of the key file, restore, run."""
    with TemporaryDirectory(prefix="sg") as parent:
        fresh = Host(folder=Path(parent) / "s")
        fresh.folder.mkdir()
        (fresh.folder / "signer.toml").write_text(FRESH_SIGNER_TOML, "utf-8")
        made = json.loads(fresh.command("keys-init", "--generate-passphrase", "--cheap"))
        assert "already" in fresh.command("keys-init", "--cheap", expect=2)
        exported = json.loads(fresh.command("keys-export-xpubs", "--accounts=2"))
        assert exported["fingerprint"] == made["fingerprint"]
        assert set(exported["networks"]) == {"btc", "ltc", "eth"}
        assert set(exported["networks"]["btc"]) == {"0", "1", "2"}
        assert bip32.HDKey.from_string(exported["networks"]["btc"]["2"]).depth == 3
        backup = fresh.folder / "backup.json"
        fresh.command("keys-backup", f"--out={backup}")
        (fresh.folder / "keyring.json").unlink()
        assert "cannot be opened" in fresh.command("run", expect=1)
        restored = json.loads(fresh.command("keys-restore", f"--from={backup}"))
        assert restored == {**made, "store": True}
        out = fresh.folder / "xpubs.json"
        fresh.command("keys-export-xpubs", "--accounts=2", f"--out={out}")
        assert json.loads(out.read_text("utf-8")) == exported
        fresh.start()
        assert fresh.stop() == 0


def test_keys_are_sealed_anew_and_the_old_passphrase_opens_them_no_more(host: Host) -> None:
    """Also when the first run was killed between its two files."""
    new = host.folder / "new"
    write_private(new, b"another public passphrase\n")
    before = json.loads(host.command("keys-export-xpubs"))
    old_passphrase = (host.folder / "passphrase").read_bytes()
    assert "is the old one" in host.command(
        "keys-rotate", f"--new-passphrase-file={host.folder / 'passphrase'}", expect=2
    )
    host.command("keys-rotate", f"--new-passphrase-file={new}", "--cheap")
    assert json.loads(host.command("keys-export-xpubs")) == before
    assert stat.S_IMODE((host.folder / "keyring.json").stat().st_mode) == 0o600
    (host.folder / "passphrase").write_bytes(old_passphrase)
    assert "wrong passphrase" in host.command("run", expect=1)
    host.command("keys-rotate", f"--new-passphrase-file={new}", "--cheap")
    assert json.loads(host.command("keys-export-xpubs")) == before


def test_s09_restore_beside_a_copied_or_a_living_store_is_refused(host: Host) -> None:
    backup = host.folder / "backup.json"
    host.command("keys-backup", f"--out={backup}")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    host.start()
    (host.folder / "keyring.json").unlink()
    assert "another signer runs" in host.command("keys-restore", f"--from={backup}", expect=1)
    host.stop()
    store = host.folder / "signer.sqlite"
    copy = store.read_bytes()
    store.rename(host.folder / "aside")
    store.write_bytes(copy)
    assert "a copy" in host.command("keys-restore", f"--from={backup}", expect=1)
    assert not (host.folder / "keyring.json").exists()
    (host.folder / "aside").replace(store)
    host.command("keys-restore", f"--from={backup}")


def test_restore_of_other_keys_beside_a_store_is_refused(host: Host) -> None:
    foreign = seal(
        bytes([7] * 32), PASSPHRASE, randomness=CountingRandomness(), is_test=True, is_cheap=True
    )
    (host.folder / "passphrase").write_bytes(PASSPHRASE + b"\n")
    write_private(host.folder / "foreign.json", foreign)
    (host.folder / "keyring.json").unlink()
    message = host.command("keys-restore", f"--from={host.folder / 'foreign.json'}", expect=1)
    assert "another key set" in message


def test_s12_wrong_passphrase_or_wrong_mode_ends_with_one_clear_line(host: Host) -> None:
    path = host.folder / "passphrase"
    path.write_bytes(b"another passphrase\n")
    message = host.command("run", expect=1)
    assert message.count("\n") == 1
    assert "wrong passphrase or altered file" in message
    path.chmod(0o644)
    assert "mode 0600" in host.command("run", expect=1)


def test_start_under_optimisation_is_refused(host: Host) -> None:
    """`python -O` strips checks (HOUSE 11)."""
    done = subprocess.run(
        [sys.executable, "-O", "-m", "signer", "run", "--dir", str(host.folder)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 2
    assert "python -O" in done.stderr


def test_usage_and_configuration_errors_exit_2(host: Host) -> None:
    host.command("nothing", expect=2)
    (host.folder / "signer.toml").write_text("[signer]\nfoo = 1\n", "utf-8")
    assert "missing" in host.command("run", expect=2)


def test_verify_names_the_first_bad_record_and_exits_1(host: Host) -> None:
    trusted(host)
    assert host.stop() == 0
    settings = load_settings(host.folder, own_uid=0)
    store = Store(settings.store, settings.anchor, fingerprint="5436d724", clock=HandClock())
    store.execute("DROP TRIGGER log_is_append_only")
    store.execute("UPDATE log SET body = replace(body, 'acme', 'evil') WHERE sequence = 2")
    store.close()
    assert "broken at record 2" in host.command("verify", expect=1)


def test_call_to_no_signer_says_so(host: Host) -> None:
    with pytest.raises(SignerError, match="is it running"):
        host.ask(protocol.encode_head_request())


def test_whose_an_address_is_survives_kill_9_byte_for_byte(host: Host) -> None:
    """Bound before it is answered: after kill -9 another player is refused (FEATURES N20)."""
    host.start()
    first = protocol.AttestItem(brand="acme", player="player-1", path="m/44h/60h/1h/0/0")
    other = protocol.AttestItem(brand="acme", player="player-2", path="m/44h/60h/1h/0/0")

    def ask(*items: protocol.AttestItem) -> protocol.Attestations:
        message = protocol.encode_attest_request(protocol.AttestRequest(network="eth", items=items))
        answer = protocol.decode_attest_answer(host.ask(message))
        assert isinstance(answer, protocol.Attestations), answer
        return answer

    answer = ask(first)
    assert host.stop(signal.SIGKILL) == -signal.SIGKILL
    host.start()
    assert ask(first) == answer
    [refusal] = ask(other).items
    assert isinstance(refusal, Refusal)
    assert refusal.code == "bound"
    exported = json.loads(host.command("keys-export-xpubs", "--accounts=1"))["attestation"]
    assert (exported["key_id"], exported["algorithm"]) == (answer.key_id, "ed25519")
    [attested] = answer.items
    assert isinstance(attested, protocol.Attested)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(exported["public_key"]))
    key.verify(attested.signature, attested.statement.encode())
