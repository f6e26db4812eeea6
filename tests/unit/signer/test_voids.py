"""A cancel that reaches the signer: no first signature ever after (CONTRACT 3, S25)."""

import base64
import hashlib
import json
import sqlite3
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from signer import protocol
from signer.errors import StoreError
from signer.protocol import Authorisation, Refusal, Voided, VoidRequest
from signer.store import STORE_VERSION, read_log
from tests.support import sign_requests
from tests.support import vault as kits
from tests.support.sign_requests import (
    authorise,
    cancel,
    order_body,
    payment,
    utxo_request,
    void_of,
)
from tests.support.vault import WITHOUT_VERSION_4, VaultKit, open_kit, public_text, trust_client

STRANGER = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"public stranger").digest())
SAYS_R1 = b'{"request_id":"r-1"}'
TWO_OUTPUTS = ("r-1", "r-2")


def voided(kit: VaultKit, request: VoidRequest) -> Voided:
    """Ask and expect that it is void."""
    answer = kit.vault.void(request)
    assert isinstance(answer, Voided), answer
    return answer


def void_refused(kit: VaultKit, request: VoidRequest) -> str:
    """Ask, expect a refusal, return its code."""
    answer = kit.vault.void(request)
    assert isinstance(answer, Refusal), answer
    return answer.code


def two_payments(kit: VaultKit, *, attempt_id: str, request_ids: tuple[str, str]) -> object:
    """A batch of two orders of 0.2 BTC each."""
    coin = sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, 1)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 20_000_000),
        (sign_requests.FOREIGN_SCRIPT, 20_000_000),
        (kit.script(sign_requests.CHANGE), 59_990_000),
    ]
    request = utxo_request(
        kit,
        attempt_id=attempt_id,
        unsigned=sign_requests.psbt_of([coin], outputs).serialize(),
        payments=tuple(
            payment(index, request_id=name, amount="0.2") for index, name in enumerate(request_ids)
        ),
        change_paths={2: sign_requests.CHANGE},
    )
    return kit.vault.sign(request)


@pytest.mark.parametrize(
    "claim",
    [
        cancel(),
        cancel(body=b"{}"),
        cancel(body=SAYS_R1),
        cancel(idempotency_key="key-9"),
        cancel(body=SAYS_R1, idempotency_key="key-9"),
        None,
    ],
    ids=["bare", "empty_object", "names_it", "with_key", "names_it_with_key", "callers_word"],
)
def test_s25_order_that_was_given_up_is_never_signed_first(
    kit: VaultKit, claim: Authorisation | None
) -> None:
    answer = voided(kit, void_of(claim))
    assert answer.is_signed is False
    refusal = kit.vault.sign(utxo_request(kit))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == ("voided", "r-1: the order was given up")
    assert kit.refused(utxo_request(kit, attempt_id="a-2", salts=(2,))) == "voided"
    other = utxo_request(kit, attempt_id="a-3", payments=(payment(request_id="r-2"),))
    kit.signed(other)


def test_s25_order_signed_anew_under_the_same_request_id_stays_void(kit: VaultKit) -> None:
    """The pair is void, not the bytes: another signature, amount or batch of the client is too."""
    voided(kit, void_of(cancel()))
    later = authorise(order_body(), created=kits.START + 5, nonce="nonce-2")
    kit.clock.now += 10
    assert kit.refused(utxo_request(kit, payments=(payment(claim=later),))) == "voided"


def test_s25_one_void_member_refuses_the_batch_by_its_name(kit: VaultKit) -> None:
    """Payouts find the suspect by the name before the colon; the others are paid next time."""
    voided(kit, void_of(cancel(), request_id="r-2", amount="0.2"))
    refusal = two_payments(kit, attempt_id="a-1", request_ids=TWO_OUTPUTS)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason.partition(":")[0]) == ("voided", "r-2")
    assert not isinstance(two_payments(kit, attempt_id="a-2", request_ids=("r-1", "r-3")), Refusal)


def test_s25_item_of_a_signed_batch_is_given_up_alone(kit: VaultKit) -> None:
    body = {"items": [order_body(request_id=name) for name in TWO_OUTPUTS]}
    claim = authorise(body, path="/v1/withdrawal_batches")
    voided(kit, VoidRequest(brand="acme", request_id="r-2", order=claim, cancel=cancel()))
    assert (
        kit.refused(utxo_request(kit, payments=(payment(claim=claim, request_id="r-2"),)))
        == "voided"
    )
    missing = VoidRequest(brand="acme", request_id="r-3", order=claim, cancel=None)
    assert void_refused(kit, missing) == "payment_mismatch"


def test_s25_begun_family_is_still_answered_and_replaced(kit: VaultKit) -> None:
    """After a first signature a void takes nothing back: the tx may be on its way already."""
    first = kit.signed(utxo_request(kit))
    answer = voided(kit, void_of(cancel()))
    assert answer.is_signed is True
    assert kit.signed(utxo_request(kit)) == first
    kit.signed(utxo_request(kit, attempt_id="a-2", fee=2_000, replaces="a-1"))
    assert kit.refused(utxo_request(kit, attempt_id="a-3", salts=(2,), fee=9_000)) == "already_paid"


def test_s25_void_is_idempotent_and_its_first_entry_stands(kit: VaultKit) -> None:
    first = voided(kit, void_of(cancel()))
    entries = kit.vault.head().sequence
    assert voided(kit, void_of(cancel())) == first
    assert voided(kit, void_of(None)) == first
    assert voided(kit, void_of(cancel("wd_test_2", created=kits.START + 1))) == first
    assert kit.vault.head().sequence == entries


def test_s25_void_stands_after_the_key_was_revoked(kit: VaultKit) -> None:
    """The second delivery of what is void needs no key any more; a first one by it is refused."""
    first = voided(kit, void_of(cancel()))
    kit.statement("revoke", {"keyid": "client-1"}, people=("alice",))
    assert voided(kit, void_of(cancel())) == first
    late = void_of(cancel("wd_test_2"), request_id="r-2")
    assert void_refused(kit, late) == "key_not_trusted"
    voided(kit, replace(late, cancel=None))


def test_s25_memory_survives_a_restart(kit: VaultKit) -> None:
    first = voided(kit, void_of(cancel()))
    again = kit.reopen()
    assert again.refused(utxo_request(again)) == "voided"
    assert voided(again, void_of(cancel())) == first
    again.store.close()


def test_s25_void_is_in_the_chained_log_with_the_bytes_that_the_client_signed(
    kit: VaultKit,
) -> None:
    claim = cancel(body=SAYS_R1)
    answer = voided(kit, void_of(claim))
    voided(kit, void_of(None, request_id="r-2"))
    kit.store.close()
    entries = [json.loads(body) for _, body, _ in read_log(kit.settings.store)]
    found, stated = entries[answer.log_sequence - 1], entries[answer.log_sequence]
    assert (found["kind"], stated["kind"]) == ("voided", "voided")
    assert found["fields"]["cancel"]["signature"] == claim.signature
    assert base64.b64decode(found["fields"]["cancel"]["body"]) == SAYS_R1
    assert stated["fields"] == {"brand": "acme", "request_id": "r-2", "cancel": None}


def _tampered(claim: Authorisation, **changes: object) -> Authorisation:
    return replace(claim, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        (cancel(key=STRANGER), "unauthentic"),
        (cancel(keyid="client-9"), "unknown_key"),
        (cancel(target="/v1/withdrawals/{}/approve"), "unauthentic"),
        (cancel(target="/v1/withdrawals"), "unauthentic"),
        (cancel(target="/v1/withdrawals/{}/cancel?x=1"), "unauthentic"),
        (cancel("wd_1/../wd_2"), "unauthentic"),
        (cancel(authority="other.test"), "unauthentic"),
        (cancel(created=kits.START + 61), "unauthentic"),
        (_tampered(cancel(), path="/v1/withdrawals/wd_test_2/cancel"), "unauthentic"),
        (_tampered(cancel(), method="PUT"), "unauthentic"),
        (_tampered(cancel(), body=SAYS_R1), "unauthentic"),
        (_tampered(cancel(body=SAYS_R1), body=b'{"request_id":"r-2"}'), "unauthentic"),
        (_tampered(cancel(body=SAYS_R1), body=b""), "unauthentic"),
        (_tampered(cancel(), headers={"idempotency-key": "k"}), "unauthentic"),
        (_tampered(cancel(), headers={"host": "x"}), "unauthentic"),
        (_tampered(cancel(), signature="sig1=:AAAA:"), "unauthentic"),
        (cancel(body=b'{"request_id":"r-2"}'), "bad_cancel"),
        (cancel(body=b'{"request_id":1}'), "bad_cancel"),
        (cancel(body=b'{"request_id":"r-1","more":"x"}'), "bad_cancel"),
        (cancel(body=b'{"request_id":"r-1","request_id":"r-1"}'), "bad_cancel"),
        (cancel(body=b"[]"), "bad_cancel"),
        (cancel(body=b'{"request_id":"' + b"r" * 5_000 + b'"}'), "bad_cancel"),
    ],
)
def test_s25_forged_cancel_makes_nothing_void(
    kit: VaultKit, claim: Authorisation, code: str
) -> None:
    assert void_refused(kit, void_of(claim)) == code
    kit.signed(utxo_request(kit))


def test_s25_cancel_by_another_brands_key_makes_nothing_void(kit: VaultKit) -> None:
    trust_client(kit, "client-2", brand="bravo", public_key=public_text(STRANGER))
    foreign = cancel(key=STRANGER, keyid="client-2")
    assert void_refused(kit, void_of(foreign)) == "key_not_trusted"
    claimed = replace(void_of(None), brand="bravo")
    assert void_refused(kit, claimed) == "key_not_trusted"
    kit.signed(utxo_request(kit))


def test_s25_cancel_by_another_key_of_the_brand_holds(kit: VaultKit) -> None:
    trust_client(kit, "client-2", public_key=public_text(STRANGER))
    voided(kit, void_of(cancel(key=STRANGER, keyid="client-2")))
    assert kit.refused(utxo_request(kit)) == "voided"


def test_s25_cancel_by_a_frozen_or_expired_key_makes_nothing_void(kit: VaultKit) -> None:
    trust_client(kit, "client-2", public_key=public_text(STRANGER), expires_at=kit.clock.now + 100)
    claim = cancel(key=STRANGER, keyid="client-2")
    kit.clock.now += 100
    assert void_refused(kit, void_of(claim)) == "key_not_trusted"
    kit.statement("freeze", {"keyid": "client-1"}, people=("alice",))
    assert void_refused(kit, void_of(cancel())) == "key_not_trusted"
    kit.statement("unfreeze", {"keyid": "client-1"})
    kit.signed(utxo_request(kit))


def test_s25_one_signed_cancel_gives_up_one_order(kit: VaultKit) -> None:
    """A stolen gateway cannot show one cancel of a client as the proof for two orders."""
    voided(kit, void_of(cancel()))
    assert void_refused(kit, void_of(cancel(), request_id="r-2")) == "bad_cancel"
    again = void_of(cancel(created=kits.START + 1), request_id="r-2")
    assert void_refused(kit, again) == "bad_cancel"
    kit.signed(utxo_request(kit, payments=(payment(request_id="r-2"),)))


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (replace(authorise(order_body()), body=b"{}"), "unauthentic"),
        (replace(authorise(order_body()), signature="sig1=:AAAA:"), "unauthentic"),
        (authorise(order_body(), keyid="client-9"), "unknown_key"),
        (authorise(order_body(request_id="r-9")), "payment_mismatch"),
        (cancel(), "unauthentic"),
    ],
)
def test_s25_nothing_is_void_that_no_client_ordered(
    kit: VaultKit, order: Authorisation, code: str
) -> None:
    """The store grows by what clients signed only, whatever a stolen gateway sends."""
    assert void_refused(kit, replace(void_of(cancel()), order=order)) == code
    assert kit.store.rows("SELECT 1 FROM voids") == []
    kit.signed(utxo_request(kit))


def test_s25_refused_void_is_logged_and_may_be_made_void_later(kit: VaultKit) -> None:
    assert void_refused(kit, void_of(cancel(keyid="client-9"))) == "unknown_key"
    voided(kit, void_of(cancel()))
    kit.store.close()
    kinds = [json.loads(body)["kind"] for _, body, _ in read_log(kit.settings.store)]
    assert kinds[-2:] == ["void_refused", "voided"]


def test_s25_store_that_cannot_be_written_keeps_no_void(kit: VaultKit) -> None:
    """The anchor's folder is gone: nothing is answered as done."""
    kit.settings.anchor.rename(kit.folder / "moved")
    answer = kit.vault.void(void_of(cancel()))
    assert isinstance(answer, Refusal)
    assert answer.code == "store_unwritable"


def test_s25_void_row_is_for_ever(kit: VaultKit) -> None:
    voided(kit, void_of(cancel()))
    for sql in ("DELETE FROM voids", "UPDATE voids SET request_id = 'r-9'"):
        with pytest.raises(StoreError, match="void is for ever"):
            kit.store.execute(sql)
    assert kit.refused(utxo_request(kit)) == "voided"


def test_s25_store_of_the_version_before_learns_voids_and_keeps_its_memory(kit: VaultKit) -> None:
    """A signer that is upgraded goes on with its store; the newer one cannot be opened as older."""
    first = kit.signed(utxo_request(kit))
    kit.store.close()
    with sqlite3.connect(kit.settings.store) as connection:
        connection.execute("DROP TABLE voids")
        connection.execute("DROP TABLE bindings")
        connection.executescript(WITHOUT_VERSION_4)
        connection.execute("UPDATE meta SET version = 1")
    connection.close()
    again = open_kit(kit.folder, kit.clock)
    assert again.signed(utxo_request(again)) == first
    voided(again, void_of(None, request_id="r-2"))
    assert again.store.rows("SELECT version FROM meta") == [(STORE_VERSION,)]
    again.store.close()


def test_void_messages_decode_to_what_was_encoded() -> None:
    for request in (void_of(cancel(body=SAYS_R1)), void_of(None)):
        wire = protocol.strict_loads(protocol.frame(protocol.encode_void_request(request))[4:])
        assert protocol.operation_of(wire) is protocol.Operation.VOID
        assert protocol.decode_void_request(wire) == request
    for answer in (
        Voided(log_sequence=7, is_signed=False),
        Refusal(code="bad_cancel", reason="no"),
    ):
        wire = protocol.strict_loads(protocol.frame(protocol.encode_void_answer(answer))[4:])
        assert protocol.decode_void_answer(wire) == answer


@pytest.mark.parametrize(
    "raw",
    [
        {"ok": True, "log_sequence": 1},
        {"ok": True, "log_sequence": "1", "is_signed": False},
        {"ok": True, "log_sequence": 1, "is_signed": 0},
        {"ok": True, "log_sequence": 1, "is_signed": False, "more": 1},
    ],
)
def test_answer_that_is_none_of_void_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_void_answer(raw)
