"""Only what a trusted client signed, by the contract's own form, authorises a payment (S01)."""

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from signer.attempts_store import question_of
from signer.protocol import Authorisation, Payment, SignRequest, encode_sign_request
from tests.support import vault as kits
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    HOT,
    authorise,
    order_body,
    payment,
    previous_tx,
    psbt_of,
    utxo_request,
)
from tests.support.vault import VaultKit


def outcome(kit: VaultKit, claim: Authorisation, **changes: Any) -> str:
    """The refusal code of a withdrawal with this authorisation."""
    item = payment(claim=claim)
    return kit.refused(utxo_request(kit, payments=(replace(item, **changes),)))


def test_s01_body_changed_after_signing_is_refused(kit: VaultKit) -> None:
    claim = authorise(order_body(amount="0.4"))
    forged = replace(claim, body=json.dumps(order_body()).encode())
    assert outcome(kit, forged) == "unauthentic"


def test_s01_body_and_digest_changed_after_signing_are_refused(kit: VaultKit) -> None:
    body = json.dumps(order_body()).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    claim = authorise(order_body(amount="0.4"))
    headers = {**claim.headers, "content-digest": f"sha-256=:{digest}:"}
    assert outcome(kit, replace(claim, body=body, headers=headers)) == "unauthentic"


def test_s01_without_a_signature_is_refused(kit: VaultKit) -> None:
    claim = authorise(order_body())
    assert outcome(kit, replace(claim, signature="")) == "unauthentic"


def test_s01_unknown_key_is_refused(kit: VaultKit) -> None:
    assert outcome(kit, authorise(order_body(), keyid="nobody")) == "unknown_key"


def test_s01_key_of_another_brand_is_refused(kit: VaultKit) -> None:
    assert outcome(kit, authorise(order_body()), brand="other") == "key_not_trusted"


def test_s01_expired_key_is_refused(kit: VaultKit) -> None:
    kits.trust_client(kit, "client-2", expires_at=kit.clock.now + 10)
    kit.clock.now += 10
    assert outcome(kit, authorise(order_body(), keyid="client-2")) == "key_not_trusted"


def test_order_of_another_request_id_is_refused(kit: VaultKit) -> None:
    assert outcome(kit, authorise(order_body()), request_id="r-2") == "payment_mismatch"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/v1/withdrawals/check"},
        {"path": "/v1/withdrawals/"},
        {"path": "/v1/rebalances"},
        {"query": "?a=1"},
        {"authority": "evil.test"},
        {"authority": "CAGE.test:8080"},
        {"nonce": None},
        {"created": kits.START + 61},
        {"components": ("@method", "@authority", "@path", "@query", "content-digest")},
        {"components": ("@method", "@authority", "@path", "content-digest", "idempotency-key")},
        {"components": ("@method", "@authority", "@query", "content-digest", "idempotency-key")},
        {"components": ("@method", "@path", "@query", "content-digest", "idempotency-key")},
        {"components": ("@authority", "@path", "@query", "content-digest", "idempotency-key")},
        {"components": ("@method", "@authority", "@path", "@query", "idempotency-key")},
    ],
)
def test_s01_every_other_form_of_request_is_refused(kit: VaultKit, changes: dict[str, Any]) -> None:
    """Signed by the right key, but not what CONTRACT 3 says a withdrawal is."""
    assert outcome(kit, authorise(order_body(), **changes)) == "unauthentic"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "DELETE"),
        ("path", "/v1/withdrawal_batches"),
        ("query", "?x=1"),
        ("authority", "evil.test"),
        ("signature", "sig1=:AAAA:"),
        ("signature", "sig1"),
        ("signature_input", "sig1=()"),
        ("signature_input", ""),
        ("signature_input", 'sig1=("@method" "@path");created=1;keyid="client-1"'),
    ],
)
def test_s14_component_that_differs_from_the_signed_one_is_refused(
    kit: VaultKit, field: str, value: str
) -> None:
    claim = authorise(order_body())
    changes: dict[str, Any] = {field: value}
    assert outcome(kit, replace(claim, **changes)) == "unauthentic"


def test_extra_or_missing_header_is_refused(kit: VaultKit) -> None:
    claim = authorise(order_body())
    for headers in ({}, {**claim.headers, "date": "x"}):
        request = utxo_request(
            kit,
            attempt_id=f"a-{len(headers)}",
            payments=(payment(claim=replace(claim, headers=headers)),),
        )
        assert kit.refused(request) == "unauthentic"


def test_second_signature_beside_the_first_is_refused(kit: VaultKit) -> None:
    claim = authorise(order_body())
    two = replace(
        claim,
        signature_input=f"{claim.signature_input}, {claim.signature_input.replace('sig1', 'b')}",
        signature=f"{claim.signature}, {claim.signature.replace('sig1', 'b')}",
    )
    assert outcome(kit, two) == "unauthentic"


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0.5},
        {"amount": 1},
        {"amount": "0"},
        {"amount": "0.0"},
        {"amount": "-0.5"},
        {"amount": "+0.5"},
        {"amount": "5e-1"},
        {"amount": ".5"},
        {"amount": "0."},
        {"amount": "00.5"},
        {"amount": "0,5"},
        {"amount": " 0.5"},
        {"amount": "0.5\n"},
        {"amount": "NaN"},
        {"amount": "Infinity"},
        {"amount": "0.500000000"},
        {"amount": "\u0660.\u0665"},
        {"amount": None},
        {"pam_balance": None},
        {"pam_balance": 0},
        {"asset": "doge:DOGE"},
        {"asset": "btc:btc"},
        {"asset": "btc"},
        {"player_id": None},
        {"player_id": ""},
        {"fee_class": "slow"},
        {"fee_mode": "casino"},
        {"max_fee": "x"},
        {"metadata": "x"},
        {"valid_until": "tomorrow"},
        {"valid_until": "2023-11-15"},
        {"valid_until": "2023-11-15T00:00:00+01:00"},
        {"valid_until": "2023-13-15T00:00:00Z"},
        {"valid_until": "2024-11-15T00:00:00Z"},
        {"address2": "x"},
        {"address": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"},
        {"address": kits.FOREIGN_BTC.upper()[:-1] + "x"},
        {"address": kits.FOREIGN_EVM},
    ],
)
def test_s20_body_off_the_strict_form_is_refused(kit: VaultKit, changes: dict[str, Any]) -> None:
    body = order_body(**changes)
    assert outcome(kit, authorise(body)) == "bad_order"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"amount":"1","amount":"2"}',
        b"\xff{}",
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"request_id":"\\ud800"}',
    ],
)
def test_s20_body_that_is_not_one_strict_object_is_refused(kit: VaultKit, body: bytes) -> None:
    assert outcome(kit, authorise(body)) == "bad_order"


def test_uppercase_bech32_and_optional_fields_are_taken(kit: VaultKit) -> None:
    body = order_body(
        address=kits.FOREIGN_BTC.upper(),
        max_fee="0.1",
        metadata={"k": ["v", 1]},
        valid_until="2023-11-20T00:00:00.5Z",
        fee_class="urgent",
    )
    kit.signed(utxo_request(kit, payments=(payment(claim=authorise(body)),)))


def batch_payment(body: dict[str, Any], request_id: str) -> Payment:
    """One item of a signed batch."""
    claim = authorise(body, path="/v1/withdrawal_batches")
    return Payment(brand="acme", request_id=request_id, output_index=0, authorisation=claim)


def test_item_of_a_signed_batch_is_paid(kit: VaultKit) -> None:
    body = {"items": [order_body(request_id="r-7", amount="0.1"), order_body(request_id="r-8")]}
    kit.signed(utxo_request(kit, payments=(batch_payment(body, "r-8"),)))


def two_of_one_batch(kit: VaultKit) -> SignRequest:
    """Two outputs that one signed batch asked for."""
    body = {"items": [order_body(request_id=f"r-{n}", amount="0.25") for n in (0, 1)]}
    claim = authorise(body, path="/v1/withdrawal_batches")
    coin = previous_tx(kit.script(HOT), 50_001_000)
    return utxo_request(
        kit,
        unsigned=psbt_of([coin], [(FOREIGN_SCRIPT, 25_000_000)] * 2).serialize(),
        change_paths={},
        payments=tuple(
            Payment(brand="acme", request_id=f"r-{n}", output_index=n, authorisation=claim)
            for n in (0, 1)
        ),
    )


def test_items_of_one_signed_batch_are_kept_with_its_body_once(kit: VaultKit) -> None:
    request = two_of_one_batch(kit)
    kit.signed(request)
    kept = question_of(kit.store, request.attempt_id)
    assert kept is not None
    body = base64.b64encode(request.payments[0].authorisation.body)
    assert kept.count(body) == 1
    assert kit.vault.recall(request.attempt_id) == request


def test_a_question_of_an_older_version_is_still_read(kit: VaultKit) -> None:
    """It wrote the body at each payment, and is not rewritten: the log's chain stays as it is."""
    request = two_of_one_batch(kit)
    kit.signed(request)
    message = encode_sign_request(request)
    message["payments"][1]["authorisation"] = message["payments"][0]["authorisation"]
    kit.store.execute(
        "UPDATE questions SET body = ? WHERE attempt_id = ?",
        (zlib.compress(json.dumps(message).encode()), request.attempt_id),
    )
    assert kit.vault.recall(request.attempt_id) == request


@pytest.mark.parametrize(
    "body",
    [
        {"items": []},
        {"items": {}},
        {"items": [order_body()], "more": 1},
        {"items": [order_body(), order_body()]},
        {"items": [order_body(), 1]},
        {"items": [order_body(), {}]},
        {"items": [order_body(), order_body(request_id=7)]},
        {"items": [order_body(), order_body(request_id="r-1", amount="0.4")]},
        {"items": [order_body(request_id=f"r-{n}") for n in range(501)]},
        order_body(),
    ],
)
def test_malformed_batch_is_refused_whole(kit: VaultKit, body: dict[str, Any]) -> None:
    request = utxo_request(kit, payments=(batch_payment(body, "r-1"),))
    assert kit.refused(request) == "bad_order"


def test_only_the_item_that_is_paid_is_judged(kit: VaultKit) -> None:
    """The items are independent: one that no network can pay stops nobody else's payout."""
    body = {"items": [order_body(request_id="r-7", amount="-1"), order_body(request_id="r-8")]}
    bad = utxo_request(kit, payments=(batch_payment(body, "r-7"),))
    assert kit.refused(bad) == "bad_order"
    absent = utxo_request(kit, attempt_id="a-2", payments=(batch_payment(body, "r-9"),))
    assert kit.refused(absent) == "payment_mismatch"
    kit.signed(utxo_request(kit, attempt_id="a-3", payments=(batch_payment(body, "r-8"),)))


def test_an_item_of_a_batch_pays_its_own_amount_only(kit: VaultKit) -> None:
    body = {"items": [order_body(request_id="r-7", amount="0.1"), order_body(request_id="r-8")]}
    assert kit.refused(utxo_request(kit, payments=(batch_payment(body, "r-7"),))) == (
        "payment_mismatch"
    )


def test_body_of_one_route_is_not_taken_on_the_other(kit: VaultKit) -> None:
    claim = authorise({"items": [order_body()]})
    assert outcome(kit, claim) == "bad_order"


@pytest.mark.parametrize(
    "digest", ["sha-512=:AAAA:", "sha-256=:AAAA:", "", "sha-256=:" + "A" * 5_000 + "=:"]
)
def test_content_digest_is_one_sha_256(kit: VaultKit, digest: str) -> None:
    claim = authorise(order_body())
    headers = {**claim.headers, "content-digest": digest}
    assert outcome(kit, replace(claim, headers=headers)) == "unauthentic"


def test_header_of_five_thousand_bytes_is_refused(kit: VaultKit) -> None:
    claim = authorise(order_body())
    headers = {**claim.headers, "idempotency-key": "k" * 5_000}
    assert outcome(kit, replace(claim, headers=headers)) == "unauthentic"


def test_body_over_the_limit_is_refused(kit: VaultKit) -> None:
    body = order_body(metadata={"k": "x" * (512 * 1024)})
    assert outcome(kit, authorise(body)) == "bad_order"


def of_many(kit: VaultKit, payments: tuple[Payment, ...], **changes: Any) -> SignRequest:
    """One tx that pays 0.01 BTC for each, from a coin of 1 BTC."""
    coin = previous_tx(kit.script(HOT), 100_000_000, 1)
    outputs = [(FOREIGN_SCRIPT, 1_000_000)] * len(payments)
    change = 100_000_000 - 1_000_000 * len(payments) - 20_000
    unsigned = psbt_of([coin], [*outputs, (kit.script(CHANGE), change)]).serialize()
    fields: dict[str, Any] = {
        "unsigned": unsigned,
        "payments": payments,
        "change_paths": {len(payments): CHANGE},
    }
    return utxo_request(kit, **{**fields, **changes})


def test_s01_one_forged_order_among_many_is_found(kit: VaultKit) -> None:
    """So many that they are verified side by side; each place is looked at."""
    orders = tuple(payment(n, request_id=f"m-{n}", amount="0.01") for n in range(40))
    for place in (0, 1, 38, 39):
        other = replace(
            orders[place].authorisation, signature=orders[place - 1].authorisation.signature
        )
        forged = (
            *orders[:place],
            replace(orders[place], authorisation=other),
            *orders[place + 1 :],
        )
        request = of_many(kit, forged, attempt_id=f"x-{place}")
        assert kit.refused(request) == "unauthentic", place
    kit.signed(of_many(kit, orders))


def test_items_of_one_signed_batch_share_a_tx(kit: VaultKit) -> None:
    """The body is read once, and each payment is held against its own item."""
    items = [order_body(request_id=f"i-{n}", amount="0.01") for n in range(2)]
    first, second = (batch_payment({"items": items}, f"i-{n}") for n in range(2))
    wrong = [items[0], order_body(request_id="i-1", amount="0.02")]
    other = replace(batch_payment({"items": wrong}, "i-1"), output_index=1)
    mixed = of_many(kit, (first, other), attempt_id="x-1")
    assert kit.refused(mixed) == "payment_mismatch"
    kit.signed(of_many(kit, (first, replace(second, output_index=1))))
