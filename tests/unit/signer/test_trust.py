"""The register changes by people's signatures, each statement once."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from signer.admin import load_private_key, load_public_key, make_statement, sign_statement
from signer.errors import ConfigurationError, RefusalCode, Refused
from signer.files import write_private
from tests.support.sign_requests import payment, utxo_request
from tests.support.vault import (
    STAFF_SEEDS,
    HandClock,
    VaultKit,
    client_key,
    new_folder,
    open_kit,
    public_text,
    staff_key,
    trust_client,
)


def code_of(kit: VaultKit, action: str, fields: Any, people: tuple[str, ...]) -> str:
    """The refusal code of a statement."""
    with pytest.raises(Refused) as caught:
        kit.statement(action, fields, people)
    return caught.value.code.value


def test_trust_takes_two_different_people(kit: VaultKit) -> None:
    fields = {
        "keyid": "k",
        "public_key": public_text(client_key()),
        "brand": "b",
        "caps": {"btc:BTC": {"tx": "1", "day": "1"}},
        "expires_at": kit.clock.now + 10,
    }
    assert code_of(kit, "trust", fields, ()) == "needs_staff"
    assert code_of(kit, "trust", fields, ("alice",)) == "needs_staff"
    kit.statement("trust", fields)


def test_freeze_and_revoke_take_one_person_and_unfreeze_two(kit: VaultKit) -> None:
    key = {"keyid": "client-1"}
    kit.statement("freeze", key, ("alice",))
    assert code_of(kit, "unfreeze", key, ("alice",)) == "needs_staff"
    kit.statement("unfreeze", key)
    assert code_of(kit, "revoke", key, ()) == "needs_staff"
    kit.statement("revoke", key, ("bob",))


def test_revoked_is_for_ever_and_unfreeze_is_for_frozen_only(kit: VaultKit) -> None:
    key = {"keyid": "client-1"}
    assert code_of(kit, "unfreeze", key, ("alice", "bob")) == "trust_conflict"
    kit.statement("revoke", key, ("bob",))
    for action in ("freeze", "unfreeze", "revoke"):
        kit.clock.now += 1
        assert code_of(kit, action, key, ("alice", "bob")) == "trust_conflict"
    with pytest.raises(Refused, match="in the register already"):
        trust_client(kit)


def test_statement_has_its_effect_once(kit: VaultKit) -> None:
    """A recorded `unfreeze` may not undo a later freeze."""
    key = {"keyid": "client-1"}
    kit.statement("freeze", key, ("alice",))
    kit.statement("unfreeze", key)
    text = make_statement(
        "unfreeze", signer=kit.keyring.fingerprint, issued_at=kit.clock.now, fields=key
    )
    signatures = {name: sign_statement(staff_key(name), text) for name in STAFF_SEEDS}
    kit.clock.now += 1
    kit.statement("freeze", key, ("alice",))
    with pytest.raises(Refused, match="its effect already"):
        kit.trust.apply(text, signatures, now_seconds=kit.clock.now)


@pytest.mark.parametrize("shift", [-61, 86_400])
def test_stale_or_future_statement_is_refused(kit: VaultKit, shift: int) -> None:
    text = make_statement(
        "freeze",
        signer=kit.keyring.fingerprint,
        issued_at=kit.clock.now,
        fields={"keyid": "client-1"},
    )
    signatures = {"alice": sign_statement(staff_key("alice"), text)}
    with pytest.raises(Refused, match="stale or from the future"):
        kit.trust.apply(text, signatures, now_seconds=kit.clock.now + shift)


def test_signature_of_another_person_text_or_nobody_is_refused(kit: VaultKit) -> None:
    text = make_statement(
        "freeze",
        signer=kit.keyring.fingerprint,
        issued_at=kit.clock.now,
        fields={"keyid": "client-1"},
    )
    bob = sign_statement(staff_key("bob"), text)
    raw = staff_key("alice").sign(text)
    for signatures in ({"alice": bob}, {"alice": raw}, {"carol": bob}, {"alice": b""}):
        with pytest.raises(Refused, match="needs_staff"):
            kit.trust.apply(text, signatures, now_seconds=kit.clock.now)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"action":"pay"}',
        b'{"action":["trust"]}',
        b'{"action": "freeze"}',
        b'{"action":"freeze","signer":"00000000"}',
    ],
)
def test_text_that_is_no_statement_is_refused(kit: VaultKit, text: bytes) -> None:
    with pytest.raises(Refused, match="bad_request"):
        kit.trust.apply(text, {}, now_seconds=kit.clock.now)


@pytest.mark.parametrize(
    "changes",
    [
        {"keyid": ""},
        {"keyid": 1},
        {"brand": "a b"},
        {"public_key": "AAAA"},
        {"public_key": 1},
        {"expires_at": 1},
        {"expires_at": "1"},
        {"caps": {}},
        {"caps": {"doge:DOGE": {"tx": "1", "day": "1"}}},
        {"caps": {"btc:BTC": {"tx": "1"}}},
        {"caps": {"btc:BTC": {"tx": 1, "day": "1"}}},
        {"caps": {"btc:BTC": {"tx": "-1", "day": "1"}}},
        {"extra": 1},
    ],
)
def test_malformed_trust_is_refused(kit: VaultKit, changes: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="bad_request"):
        trust_client(kit, **{"keyid": "client-2", **changes})


def test_malformed_state_change_is_refused(kit: VaultKit) -> None:
    assert code_of(kit, "freeze", {"key": "client-1"}, ("alice",)) == "bad_request"
    assert code_of(kit, "freeze", {"keyid": "nobody"}, ("alice",)) == "unknown_key"


def test_first_staff_are_two_people_and_later_ones_need_two_signatures(kit: VaultKit) -> None:
    key = public_text(Ed25519PrivateKey.from_private_bytes(bytes([3] * 32)))
    carol = {"staff": {"carol": key}}
    assert code_of(kit, "staff_add", carol, ()) == "needs_staff"
    assert code_of(kit, "staff_add", carol, ("alice",)) == "needs_staff"
    kit.statement("staff_add", carol)
    again = {"staff": {"dave": key}}
    assert code_of(kit, "staff_add", again, ("alice", "bob")) == "trust_conflict"
    assert code_of(kit, "staff_add", {"staff": {}}, ("alice", "bob")) == "bad_request"


def test_bootstrap_by_one_person_or_one_key_twice_is_refused(tmp_path: Any) -> None:
    kit = open_kit(new_folder(tmp_path), HandClock())
    alone = {"staff": {"alice": public_text(staff_key("alice"))}}
    assert code_of(kit, "staff_add", alone, ()) == "bad_request"
    key = public_text(staff_key("alice"))
    assert code_of(kit, "staff_add", {"staff": {"alice": key, "eve": key}}, ()) == "trust_conflict"
    assert code_of(kit, "freeze", {"keyid": "client-1"}, ()) == "needs_staff"
    kit.store.close()


def test_public_keys_are_taken_in_three_forms(tmp_path: Path) -> None:
    """Base64 of 32 bytes, a public PEM file, and a person's own private PEM file."""
    key = staff_key("alice")
    private, public = tmp_path / "alice.pem", tmp_path / "alice.pub"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(private, pem)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    expected = public_text(key)
    for text in (expected, str(public), str(private)):
        assert load_public_key(text) == expected
    assert load_private_key(private).private_bytes_raw() == key.private_bytes_raw()


def test_file_that_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "other.pem", tmp_path / "other.pub"
    write_private(private, other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    for wrong in (private, public, tmp_path / "none"):
        with pytest.raises(ConfigurationError):
            load_public_key(str(wrong))
    public.chmod(0o600)
    with pytest.raises(ConfigurationError, match="private key"):
        load_private_key(public)


def test_key_ids_of_the_gateway_are_names(kit: VaultKit) -> None:
    trust_client(kit, "_key_test_0190a.b:c-1")


def test_every_refusal_code_is_documented() -> None:
    """docs/SIGNER.md lists exactly the codes of the code."""
    text = (Path(__file__).parents[3] / "docs" / "SIGNER.md").read_text("utf-8")
    table = text.partition("## Refusal codes")[2]
    listed = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert listed == [code.value for code in RefusalCode]


def test_s16_one_person_halts_every_signature_and_two_let_them_go_on(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit))
    kit.statement("halt", {}, ("bob",))
    again = kit.reopen()
    assert again.refused(utxo_request(again)) == "halted"  # also what was signed before
    with pytest.raises(Refused, match="halted"):
        again.vault.lookup("a-1")
    new = utxo_request(again, attempt_id="a-2", salts=(2,), payments=(payment(request_id="r-2"),))
    assert again.refused(new) == "halted"
    assert code_of(again, "resume", {}, ("alice",)) == "needs_staff"
    assert code_of(again, "resume", {"keyid": "client-1"}, ("alice", "bob")) == "bad_request"
    again.statement("resume", {})
    assert again.signed(utxo_request(again)) == first
    again.signed(new)  # a halt is about the signer, not about the attempt
    again.store.close()


def test_a_halt_is_not_halted_again(kit: VaultKit) -> None:
    assert code_of(kit, "resume", {}, ("alice", "bob")) == "trust_conflict"
    kit.statement("halt", {}, ("bob",))
    kit.clock.now += 1
    assert code_of(kit, "halt", {}, ("alice",)) == "trust_conflict"


def test_frozen_person_signs_no_statement_and_two_others_unfreeze(kit: VaultKit) -> None:
    carol = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
    kit.statement("staff_add", {"staff": {"carol": public_text(carol)}})
    kit.statement("staff_freeze", {"person": "carol"}, ("alice",))
    text = make_statement(
        "halt", signer=kit.keyring.fingerprint, issued_at=kit.clock.now, fields={}
    )
    with pytest.raises(Refused, match="nobody on the staff"):
        kit.trust.apply(text, {"carol": sign_statement(carol, text)}, now_seconds=kit.clock.now)
    assert code_of(kit, "staff_unfreeze", {"person": "carol"}, ("alice",)) == "needs_staff"
    kit.statement("staff_unfreeze", {"person": "carol"})
    kit.trust.apply(text, {"carol": sign_statement(carol, text)}, now_seconds=kit.clock.now)


def test_revoked_person_never_comes_back_under_name_or_key(kit: VaultKit) -> None:
    kit.statement("staff_revoke", {"person": "bob"}, ("alice",))
    assert code_of(kit, "staff_unfreeze", {"person": "bob"}, ("alice",)) == "needs_staff"
    assert code_of(kit, "staff_freeze", {"person": "bob"}, ("alice",)) == "trust_conflict"
    assert code_of(kit, "staff_freeze", {"person": "nobody"}, ("alice",)) == "unknown_key"
    assert code_of(kit, "staff_freeze", {"person": 1}, ("alice",)) == "bad_request"


def test_with_everybody_frozen_nobody_is_taken_without_signatures(kit: VaultKit) -> None:
    """The first staff keys need no signature; an emptied staff is not a new one."""
    kit.statement("staff_freeze", {"person": "bob"}, ("alice",))
    kit.statement("staff_freeze", {"person": "alice"}, ("alice",))
    thief = {name: public_text(staff_key(name)) for name in STAFF_SEEDS}
    assert code_of(kit, "staff_add", {"staff": thief}, ()) == "needs_staff"
