"""Two people: what is above the dual limit, a reissue and an abort take their signatures (S15)."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from signer import protocol
from signer.errors import Refused
from signer.protocol import Authorisation, Purpose, Refusal, SignRequest
from tests.support import sign_requests
from tests.support.sign_requests import (
    LANE,
    approval,
    approve_body,
    authorise,
    evm_payload,
    evm_request,
    order_body,
    payment,
    utxo_request,
)
from tests.support.vault import (
    FOREIGN_EVM,
    SIGNER_TOML,
    START,
    VaultKit,
    client_key,
    open_kit,
    public_text,
    staff_key,
    trust_client,
    trusted_kit,
)

WEEK = 7 * 86_400
OWN_SCRIPT_PATH = sign_requests.CHANGE


@pytest.fixture
def strict(tmp_path: Path) -> Any:
    """A signer whose dual limit is 0.4 BTC and 0.4 ETH, below the test order."""
    made = trusted_kit(tmp_path)
    made.store.close()
    text = SIGNER_TOML.replace(
        "cap_tx_minor = 500000000\n", "cap_tx_minor = 500000000\ndual_limit_minor = 40000000\n"
    ).replace(
        'cap_tx_minor = "5000000000000000000"\n',
        'cap_tx_minor = "5000000000000000000"\ndual_limit_minor = "400000000000000000"\n',
    )
    (made.folder / "signer.toml").write_text(text, "utf-8")
    kit = open_kit(made.folder, made.clock)
    yield kit
    kit.store.close()


def both(body: dict[str, Any], **changes: Any) -> tuple[Authorisation, ...]:
    """Alice's and Bob's requests with one body."""
    return tuple(approval(name, body, **changes) for name in ("alice", "bob"))


def test_s15_payment_above_the_dual_limit_takes_two_people(strict: VaultKit) -> None:
    assert strict.refused(utxo_request(strict)) == "needs_staff"
    one = utxo_request(strict, attempt_id="a-2", approvals=(approval("alice", approve_body()),))
    assert strict.refused(one) == "needs_staff"
    strict.signed(utxo_request(strict, attempt_id="a-3", approvals=both(approve_body())))


def test_s15_payment_below_the_dual_limit_takes_none(strict: VaultKit) -> None:
    item = payment(amount="0.4")
    coin = sign_requests.previous_tx(strict.script(sign_requests.HOT), 100_000_000, 1)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 40_000_000),
        (strict.script(sign_requests.CHANGE), 59_990_000),
    ]
    unsigned = sign_requests.psbt_of([coin], outputs).serialize()
    strict.signed(utxo_request(strict, unsigned=unsigned, payments=(item,)))


def test_s15_refusal_names_the_member_first(strict: VaultKit) -> None:
    answer = strict.sign(utxo_request(strict))
    assert isinstance(answer, Refusal)
    assert answer.reason.startswith("r-1: approve takes 2 people, has 0")


def test_s15_one_person_twice_is_one(strict: VaultKit) -> None:
    alice = approval("alice", approve_body())
    again = approval("alice", approve_body(), idempotency_key="other", created=START + 1)
    assert strict.refused(utxo_request(strict, approvals=(alice, again))) == "needs_staff"
    assert strict.refused(utxo_request(strict, attempt_id="a-2", approvals=(alice, alice))) == (
        "needs_staff"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"brand": "bravo"},
        {"request_id": "r-2"},
        {"asset": "ltc:LTC"},
        {"address": "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"},
        {"amount": "0.50000001"},
        {"amount": "0.4"},
        {"amount": 1},
        {"amount": None},
        {"address": 1},
        {"action": "reissue"},
        {"extra": "1"},
    ],
)
def test_s15_any_other_value_is_another_approval(strict: VaultKit, changes: dict[str, Any]) -> None:
    other = approval("bob", approve_body(**changes), action="approve")
    good = approval("alice", approve_body())
    assert strict.refused(utxo_request(strict, approvals=(good, other))) == "needs_staff"


def test_s15_spelling_of_address_and_amount_does_not_matter(strict: VaultKit) -> None:
    """The gateway shows the canonical text; the client may have sent another one."""
    body = approve_body(amount="0.50000000", address=approve_body()["address"].upper())
    strict.signed(utxo_request(strict, approvals=both(body)))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": Ed25519PrivateKey.from_private_bytes(bytes(32))},
        {"key": client_key()},
        {"authority": "elsewhere.test"},
        {"target": "/v1/withdrawals/{}/approve?x=1"},
        {"target": "/v1/withdrawals/{}/cancel"},
        {"target": "/v1/withdrawals"},
        {"created": START + 61},
        {"created": START - WEEK},
    ],
)
def test_s15_approval_that_does_not_hold_counts_for_nothing(
    strict: VaultKit, changes: dict[str, Any]
) -> None:
    good = approval("alice", approve_body())
    bad = approval("bob", approve_body(), **changes)
    assert strict.refused(utxo_request(strict, approvals=(good, bad))) == "needs_staff"


def test_s15_body_that_is_not_what_was_signed_counts_for_nothing(strict: VaultKit) -> None:
    good = approval("alice", approve_body())
    bad = approval("bob", approve_body(amount="0.1"))
    forged = protocol.Authorisation(
        **{name: getattr(bad, name) for name in protocol.Authorisation.__slots__ if name != "body"},
        body=good.body,
    )
    assert strict.refused(utxo_request(strict, approvals=(good, forged))) == "needs_staff"
    assert (
        strict.refused(
            utxo_request(strict, attempt_id="a-2", approvals=(good, approval("bob", b"{}")))
        )
        == "needs_staff"
    )
    assert (
        strict.refused(
            utxo_request(strict, attempt_id="a-3", approvals=(good, approval("bob", b"[1]")))
        )
        == "needs_staff"
    )


@pytest.mark.parametrize("action", ["staff_freeze", "staff_revoke"])
def test_s15_frozen_or_revoked_person_approves_nothing(strict: VaultKit, action: str) -> None:
    strict.statement(action, {"person": "bob"}, people=("alice",))
    asked = utxo_request(strict, approvals=both(approve_body()))
    assert strict.refused(asked) == "needs_staff"


def test_s15_a_third_person_stands_in(strict: VaultKit) -> None:
    carol = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
    strict.statement("staff_add", {"staff": {"carol": public_text(carol)}})
    strict.statement("staff_freeze", {"person": "bob"}, people=("alice",))
    claims = (approval("alice", approve_body()), approval("carol", approve_body(), key=carol))
    strict.signed(utxo_request(strict, approvals=claims))


def test_s15_replacement_of_an_approved_payment_takes_no_new_approval(strict: VaultKit) -> None:
    strict.signed(utxo_request(strict, approvals=both(approve_body())))
    strict.signed(utxo_request(strict, attempt_id="a-2", fee=2_000, replaces="a-1"))


def test_s15_approvals_are_no_part_of_what_makes_a_question_the_same(strict: VaultKit) -> None:
    first = strict.signed(utxo_request(strict, approvals=both(approve_body())))
    assert strict.signed(utxo_request(strict)) == first


def test_s15_evm_payment_above_the_dual_limit_takes_two_people(strict: VaultKit) -> None:
    assert strict.refused(evm_request()) == "needs_staff"
    body = approve_body(asset="eth:ETH", address=FOREIGN_EVM.lower())
    strict.signed(evm_request(attempt_id="e-2", approvals=both(body)))


def reissue_body(*txids: str, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"action": "reissue", "brand": "acme", "request_id": "r-1"}
    return {**body, "dead_txids": sorted(txids), **changes}


def reissue(kit: VaultKit, attempt_id: str, *txids: str, **changes: Any) -> SignRequest:
    """The same order with other coins, in a new family."""
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose.REISSUE,
        "salts": (9,),
        "approvals": both(reissue_body(*txids)),
    }
    return utxo_request(kit, **{**fields, **changes})


def test_reissue_takes_two_people_who_name_every_signed_txid(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit)).txid
    second = kit.signed(utxo_request(kit, attempt_id="a-2", fee=2_000, replaces="a-1")).txid
    assert kit.refused(reissue(kit, "b-1", first)) == "needs_staff"
    assert kit.refused(reissue(kit, "b-2", first, second, "00" * 32)) == "needs_staff"
    alone = (approval("alice", reissue_body(first, second)),)
    assert kit.refused(reissue(kit, "b-3", approvals=alone)) == "needs_staff"
    as_withdrawal = reissue(kit, "b-4", first, second, purpose=Purpose.WITHDRAWAL)
    assert kit.refused(as_withdrawal) == "already_paid"
    kit.signed(reissue(kit, "b-5", first, second))


def test_reissue_happens_once_per_death(kit: VaultKit) -> None:
    """The same approvals do not begin a third family; those that also name the second do."""
    first = kit.signed(utxo_request(kit)).txid
    second = kit.signed(reissue(kit, "b-1", first)).txid
    assert kit.refused(reissue(kit, "c-1", first, salts=(10,))) == "needs_staff"
    kit.signed(reissue(kit, "c-2", first, second, salts=(10,)))


def test_reissued_family_is_replaced_as_any_other_and_the_old_one_no_more(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit)).txid
    kit.signed(reissue(kit, "b-1", first))
    old = utxo_request(kit, attempt_id="a-2", fee=2_000, replaces="a-1")
    assert kit.refused(old) == "already_paid"
    bump = reissue(kit, "b-2", fee=2_000, replaces="b-1", approvals=())
    kit.signed(bump)


def test_reissue_of_what_was_never_signed_is_refused(kit: VaultKit) -> None:
    assert kit.refused(reissue(kit, "b-1", "00" * 32)) == "bad_request"


def test_reissue_carries_what_was_never_signed_beside_it(kit: VaultKit) -> None:
    """The batch of a reissue may pay others for the first time, under their own rules."""
    first = kit.signed(utxo_request(kit)).txid
    coin = sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, 9)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 50_000_000),
        (sign_requests.FOREIGN_SCRIPT, 10_000_000),
        (kit.script(sign_requests.CHANGE), 39_990_000),
    ]
    both_of_them = {
        "unsigned": sign_requests.psbt_of([coin], outputs).serialize(),
        "payments": (payment(), payment(1, request_id="r-2", amount="0.1")),
        "change_paths": {2: sign_requests.CHANGE},
    }
    kit.signed(reissue(kit, "b-1", first, **both_of_them))
    again = utxo_request(kit, attempt_id="d-1", salts=(11,), payments=(payment(request_id="r-2"),))
    assert kit.refused(again) == "already_paid"


def test_reissue_of_a_voided_request_is_refused(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit)).txid
    kit.vault.void(sign_requests.void_of(None))
    assert kit.refused(reissue(kit, "b-1", first)) == "voided"


def test_reissue_pays_the_very_order_that_was_signed_for(kit: VaultKit) -> None:
    """A client that signed the request_id twice, with another amount, is paid the first."""
    first = kit.signed(utxo_request(kit)).txid
    other = authorise({**order_body(), "pam_balance": "1"}, nonce="nonce-2")
    asked = reissue(kit, "b-1", first, payments=(payment(claim=other),))
    assert kit.refused(asked) == "payment_mismatch"


def test_reissue_goes_on_after_valid_until_and_after_revocation(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit)).txid
    kit.statement("revoke", {"keyid": "client-1"}, people=("alice",))
    kit.clock.now += 8 * 86_400
    claims = both(reissue_body(first), created=kit.clock.now)
    kit.signed(reissue(kit, "b-1", approvals=claims))


def test_reissue_counts_against_the_caps_again(kit: VaultKit) -> None:
    """0.5 BTC twice under a key's cap of 0.9 per day."""
    trust_client(kit, "client-2", caps={"btc:BTC": {"tx": "50000000", "day": "90000000"}})
    item = payment(claim=authorise(order_body(), keyid="client-2"))
    first = kit.signed(utxo_request(kit, payments=(item,))).txid
    assert kit.refused(reissue(kit, "b-1", first, payments=(item,))) == "cap_window"


def test_evm_reissue_leaves_the_dead_nonce(kit: VaultKit) -> None:
    first = kit.signed(evm_request()).txid
    claims = both(reissue_body(first))
    fields: dict[str, Any] = {"purpose": Purpose.REISSUE, "approvals": claims}
    same = evm_request(attempt_id="b-1", payload=evm_payload(max_fee=40 * 10**9), **fields)
    assert kit.refused(same) == "nonce_used"
    kit.signed(evm_request(attempt_id="b-2", payload=evm_payload(nonce=1), **fields))


def abort_body(txid: str, **changes: Any) -> dict[str, Any]:
    body = {"action": "abort", "brand": "acme", "request_id": "r-1", "txid": txid}
    return {**body, **changes}


def utxo_abort(kit: VaultKit, txid: str, attempt_id: str = "x-1", **changes: Any) -> SignRequest:
    """The coins of the first attempt back to own change."""
    salts, fee = changes.pop("salts", (1,)), changes.pop("fee", 2_000)
    coins = [
        sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, salt)
        for salt in salts
    ]
    output = (kit.script(OWN_SCRIPT_PATH), len(coins) * 100_000_000 - fee)
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose.ABORT,
        "network": "btc",
        "worker_epoch": 1,
        "unsigned": sign_requests.psbt_of(coins, [output]).serialize(),
        "input_paths": (sign_requests.HOT,) * len(coins),
        "change_paths": {0: OWN_SCRIPT_PATH},
        "payments": (),
        "replaces": "a-1",
        "approvals": both(abort_body(txid)),
    }
    return SignRequest(**{**fields, **changes})


def test_abort_takes_two_people_and_pays_only_ourselves(kit: VaultKit) -> None:
    txid = kit.signed(utxo_request(kit)).txid
    assert kit.refused(utxo_abort(kit, txid, approvals=())) == "needs_staff"
    assert kit.refused(utxo_abort(kit, "00" * 32, "x-2")) == "needs_staff"
    kit.signed(utxo_abort(kit, txid, "x-3"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"replaces": None}, "bad_request"),
        ({"replaces": "nobody"}, "bad_request"),
        ({"own_path": OWN_SCRIPT_PATH}, "bad_request"),
        ({"payments": (payment(),)}, "bad_request"),
        ({"salts": (2,)}, "not_exclusive"),
        ({"salts": (1, 2)}, "foreign_input"),
        ({"fee": 1_000}, "fee_not_higher"),
        ({"change_paths": {}}, "foreign_output"),
        ({"change_paths": {0: sign_requests.HOT}}, "foreign_output"),
    ],
)
def test_abort_of_another_shape_is_refused(
    kit: VaultKit, changes: dict[str, Any], code: str
) -> None:
    txid = kit.signed(utxo_request(kit)).txid
    assert kit.refused(utxo_abort(kit, txid, **changes)) == code


def test_a_batch_is_never_aborted(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, 1)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 50_000_000),
        (sign_requests.FOREIGN_SCRIPT, 10_000_000),
        (kit.script(sign_requests.CHANGE), 39_990_000),
    ]
    txid = kit.signed(
        utxo_request(
            kit,
            unsigned=sign_requests.psbt_of([coin], outputs).serialize(),
            payments=(payment(), payment(1, request_id="r-2", amount="0.1")),
            change_paths={2: sign_requests.CHANGE},
        )
    ).txid
    assert kit.refused(utxo_abort(kit, txid, fee=20_000)) == "forbidden_shape"


def test_after_an_abort_only_an_abort_is_signed(kit: VaultKit) -> None:
    """Its payment may end `cancelled` and be credited back: it is never paid or reissued."""
    txid = kit.signed(utxo_request(kit)).txid
    aborted = kit.signed(utxo_abort(kit, txid)).txid
    bump = utxo_request(kit, attempt_id="a-2", fee=3_000, replaces="a-1")
    assert kit.refused(bump) == "already_paid"
    assert kit.refused(reissue(kit, "b-1", txid)) == "already_paid"
    assert kit.refused(reissue(kit, "b-2", txid, aborted)) == "already_paid"
    kit.signed(utxo_abort(kit, txid, "x-2", fee=3_000, replaces="x-1"))


def test_evm_abort_is_a_transfer_of_nothing_to_itself_at_the_same_nonce(kit: VaultKit) -> None:
    """A second reader of the signed bytes agrees on what they do."""
    txid = kit.signed(evm_request()).txid
    own = kit.address("eth", LANE)

    def ask(attempt_id: str, **changes: Any) -> SignRequest:
        values = {"to": bytes.fromhex(own[2:]), "value": 0, "max_fee": 60 * 10**9, **changes}
        return evm_request(
            attempt_id=attempt_id,
            purpose=Purpose.ABORT,
            payload=evm_payload(**values),
            payments=(),
            replaces="e-1",
            approvals=both(abort_body(txid)),
        )

    assert kit.refused(ask("x-1", value=1)) == "forbidden_shape"
    assert kit.refused(ask("x-2", nonce=1)) == "not_exclusive"
    assert kit.refused(ask("x-3", max_fee=30 * 10**9)) == "fee_not_higher"
    assert kit.refused(ask("x-4", to=bytes.fromhex(FOREIGN_EVM[2:]))) == "forbidden_shape"
    raw = kit.signed(ask("x-5")).raw
    read = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    assert Account.recover_transaction(raw) == own
    assert (read["nonce"], read["value"], bytes(read["data"])) == (0, 0, b"")
    assert HexBytes(read["to"]) == HexBytes(own)


def test_withdrawal_of_nothing_to_itself_is_refused(kit: VaultKit) -> None:
    own = bytes.fromhex(kit.address("eth", LANE)[2:])
    asked = evm_request(payload=evm_payload(to=own, value=0))
    assert kit.refused(asked) == "payment_mismatch"


def test_abort_of_a_reissued_request_stops_its_new_family_only(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit)).txid
    second = kit.signed(reissue(kit, "b-1", first)).txid
    assert kit.refused(utxo_abort(kit, first)) == "already_paid"
    kit.signed(utxo_abort(kit, second, "x-2", salts=(9,), replaces="b-1"))


def test_sign_message_with_approvals_decodes_to_what_was_encoded(kit: VaultKit) -> None:
    asked = utxo_request(kit, approvals=both(approve_body()))
    wire = protocol.strict_loads(protocol.frame(protocol.encode_sign_request(asked))[4:])
    assert protocol.decode_sign_request(wire) == asked
    wrongs: tuple[object, ...] = ({}, "x", [1], [{}])
    for wrong in wrongs:
        with pytest.raises(protocol.ProtocolError):
            protocol.decode_sign_request({**wire, "approvals": wrong})


def test_a_key_that_orders_may_not_approve_and_the_other_way_round(kit: VaultKit) -> None:
    with pytest.raises(Refused, match="trust_conflict"):
        kit.statement("staff_add", {"staff": {"carol": public_text(client_key())}})
    with pytest.raises(Refused, match="trust_conflict"):
        trust_client(kit, "client-9", public_key=public_text(staff_key("alice")))
