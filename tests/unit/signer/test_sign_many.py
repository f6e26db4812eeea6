"""A lot of questions is remembered as one change before any answer leaves (S09)."""

import sqlite3
from typing import Any

import pytest

from signer.anchor import read_anchor
from signer.protocol import (
    MAX_QUESTIONS,
    ProtocolError,
    Refusal,
    SignedTx,
    SignRequest,
    decode_sign_many_answer,
    decode_sign_many_request,
    encode_sign_many_answer,
    encode_sign_many_request,
)
from tests.support.sign_requests import LANE, evm_payload, evm_request, payment
from tests.support.vault import FOREIGN_EVM, VaultKit

MILLI = 10**15


def question(number: int, *, value: int = MILLI, **changes: Any) -> SignRequest:
    """Pays 0.001 ETH for a request of its own, at a nonce of its own."""
    order = payment(
        asset="eth:ETH", address=FOREIGN_EVM, amount="0.001", request_id=f"many-{number}"
    )
    fields = {"payload": evm_payload(nonce=number, value=value), "payments": (order,)}
    return evm_request(attempt_id=f"m-{number}", **{**fields, **changes})


def test_the_answers_are_those_of_one_by_one_and_the_anchor_has_them_all(kit: VaultKit) -> None:
    asked = [question(number) for number in range(5)]
    before = kit.store.sequence

    answers = kit.vault.sign_many(asked)

    assert [type(answer) for answer in answers] == [SignedTx] * 5
    assert kit.store.sequence == before + 5
    anchor = read_anchor(kit.settings.anchor)
    assert (anchor.sequence, anchor.entry_hash) == (kit.store.sequence, kit.store.entry_hash)
    assert [kit.signed(item) for item in asked] == answers
    again = kit.reopen()
    assert again.vault.sign_many(asked) == answers
    again.store.close()


def test_it_ends_with_the_first_refusal_and_keeps_what_was_signed_before(kit: VaultKit) -> None:
    """What is behind the refusal was not looked at: it may be signed under other words."""
    asked = [question(0), question(1, value=2 * MILLI), question(2)]

    answers = kit.vault.sign_many(asked)

    assert len(answers) == 2
    refusal = answers[1]
    assert isinstance(refusal, Refusal)
    assert refusal.code == "payment_mismatch"
    assert kit.vault.lookup("m-0") == answers[0]
    assert kit.vault.lookup("m-2") is None
    kit.signed(question(2, payload=evm_payload(nonce=1, value=MILLI)))


def test_caps_count_what_the_same_lot_took(kit: VaultKit) -> None:
    """5 ETH per hour and key: ten payments of 0.5 ETH, and not one more."""
    asked = [
        evm_request(
            attempt_id=f"m-{number}",
            payload=evm_payload(nonce=number),
            payments=(payment(asset="eth:ETH", address=FOREIGN_EVM, request_id=f"c-{number}"),),
        )
        for number in range(30)
    ]
    answers = kit.vault.sign_many(asked)
    last = answers[-1]
    assert isinstance(last, Refusal)
    assert last.code == "cap_window"
    assert kit.refused(asked[len(answers)]) == "cap_window"


def test_one_nonce_twice_in_a_lot_is_refused(kit: VaultKit) -> None:
    twice = question(1, payload=evm_payload(nonce=0, value=MILLI))
    answers = kit.vault.sign_many([question(0), twice])
    assert [getattr(answer, "code", "signed") for answer in answers] == ["signed", "nonce_used"]


def test_s09_nothing_of_a_lot_is_released_while_the_store_cannot_be_written(kit: VaultKit) -> None:
    """The commit fails: no answer, nothing remembered, the log where it was."""
    before = (kit.store.sequence, kit.store.entry_hash)
    kit.store.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(kit.settings.store, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    (answer,) = kit.vault.sign_many([question(0), question(1)])
    other.execute("ROLLBACK")
    other.close()

    assert isinstance(answer, Refusal)
    assert answer.code == "store_unwritable"
    assert (kit.store.sequence, kit.store.entry_hash) == before
    assert kit.vault.lookup("m-0") is None
    assert len(kit.vault.sign_many([question(0), question(1)])) == 2


def test_s09_a_commit_that_fails_takes_the_whole_lot_back(kit: VaultKit) -> None:
    """Every statement of the lot went through; the COMMIT alone fails."""
    before = (kit.store.sequence, kit.store.entry_hash)
    for sql in (
        "CREATE TABLE late (a TEXT REFERENCES attempts DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER too_late AFTER INSERT ON log BEGIN INSERT INTO late VALUES ('none'); END",
    ):
        kit.store.execute(sql)
    answers = kit.vault.sign_many([question(0), question(1)])
    kit.store.execute("DROP TRIGGER too_late")

    assert [getattr(answer, "code", "") for answer in answers] == ["store_unwritable"]
    assert (kit.store.sequence, kit.store.entry_hash) == before
    assert len(kit.vault.sign_many([question(0), question(1)])) == 2


def test_s09_a_reader_stops_no_commit(kit: VaultKit) -> None:
    """`cage signer verify` may read a log of years beside a running signer."""
    reader = sqlite3.connect(kit.settings.store, isolation_level=None)
    reader.execute("BEGIN")
    count = reader.execute("SELECT count(*) FROM log").fetchone()
    answers = kit.vault.sign_many([question(0), question(1)])
    assert [type(answer) for answer in answers] == [SignedTx, SignedTx]
    assert reader.execute("SELECT count(*) FROM log").fetchone() == count
    reader.close()


def test_s09_nothing_of_a_lot_is_released_while_the_anchor_cannot_be_written(
    kit: VaultKit,
) -> None:
    folder, aside = kit.settings.anchor.parent, kit.folder / "aside"
    folder.rename(aside)
    (answer,) = kit.vault.sign_many([question(0), question(1)])
    aside.rename(folder)
    assert isinstance(answer, Refusal)
    assert answer.code == "store_unwritable"
    assert len(kit.vault.sign_many([question(0), question(1)])) == 2


def test_the_message_says_what_is_asked_and_refuses_anything_else(kit: VaultKit) -> None:
    asked = [question(0), question(1, input_paths=(LANE,))]
    raw = encode_sign_many_request(asked)
    assert decode_sign_many_request(raw) == asked
    answers = kit.vault.sign_many(asked)
    assert decode_sign_many_answer(encode_sign_many_answer(answers)) == answers
    for wrong in (
        {**raw, "more": 1},
        {"op": "sign_many"},
        {**raw, "questions": []},
        {**raw, "questions": ["x"]},
        {**raw, "questions": raw["questions"] * MAX_QUESTIONS},
    ):
        with pytest.raises(ProtocolError):
            decode_sign_many_request(wrong)
    for broken in ({"ok": True}, {"ok": True, "answers": ["x"]}):
        with pytest.raises(ProtocolError):
            decode_sign_many_answer(broken)
