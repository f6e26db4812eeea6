"""The store refuses to be missing, copied, older, doubled or unwritable; its log shows edits."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from signer import audit
from signer.anchor import PLACE_BYTES, read_anchor
from signer.errors import StoreError
from signer.store import create_store, read_log
from tests.support.sign_requests import utxo_request
from tests.support.vault import CountingRandomness, HandClock, VaultKit, new_folder, open_kit


def test_s21_second_signer_on_the_same_keys_is_refused(kit: VaultKit) -> None:
    with pytest.raises(StoreError, match="another signer runs"):
        open_kit(kit.folder, HandClock())


def test_s09_missing_store_or_anchor_is_refused(kit: VaultKit) -> None:
    kit.store.close()
    kit.settings.anchor.rename(kit.folder / "moved")
    with pytest.raises(StoreError, match="anchor cannot be read"):
        open_kit(kit.folder, HandClock())
    (kit.folder / "moved").rename(kit.settings.anchor)
    kit.settings.store.unlink()
    with pytest.raises(StoreError, match="missing"):
        open_kit(kit.folder, HandClock())


def test_s09_older_store_put_back_is_refused(kit: VaultKit) -> None:
    """The bytes of before a signature, written into the same file."""
    old = kit.settings.store.read_bytes()
    kit.signed(utxo_request(kit))
    kit.store.close()
    kit.settings.store.write_bytes(old)
    with pytest.raises(StoreError, match="older than its anchor"):
        open_kit(kit.folder, HandClock())


def test_s09_copied_store_is_refused(kit: VaultKit) -> None:
    kit.store.close()
    copy = kit.folder / "copy"
    shutil.copy(kit.settings.store, copy)
    copy.replace(kit.settings.store)
    with pytest.raises(StoreError, match="a copy"):
        open_kit(kit.folder, HandClock())


def test_store_of_other_keys_or_no_store_at_all_is_refused(kit: VaultKit) -> None:
    kit.store.close()
    with sqlite3.connect(kit.settings.store) as connection:
        connection.execute("UPDATE meta SET fingerprint = '00000000'")
    connection.close()
    with pytest.raises(StoreError, match="another key set"):
        open_kit(kit.folder, HandClock())
    kit.settings.store.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a usable store"):
        open_kit(kit.folder, HandClock())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"store_id": 1}'])
def test_damaged_anchor_is_refused(kit: VaultKit, text: str) -> None:
    kit.store.close()
    kit.settings.anchor.write_text(text, "utf-8")
    with pytest.raises(StoreError, match="damaged"):
        open_kit(kit.folder, HandClock())


def test_store_is_never_created_over_another(kit: VaultKit) -> None:
    with pytest.raises(StoreError, match="never overwritten"):
        create_store(
            kit.settings.store,
            kit.settings.anchor,
            fingerprint="x",
            randomness=CountingRandomness(),
        )


def test_s09_nothing_is_released_while_the_anchor_cannot_be_written(kit: VaultKit) -> None:
    """The signature is remembered but not given away; it is, the same one, once all is well."""
    folder, aside = kit.settings.anchor.parent, kit.folder / "aside"
    folder.rename(aside)
    assert kit.refused(utxo_request(kit)) == "store_unwritable"
    with pytest.raises(StoreError):
        kit.vault.lookup("a-1")
    aside.rename(folder)
    kit.signed(utxo_request(kit))
    again = kit.reopen()
    again.signed(utxo_request(again))
    again.store.close()


def test_s09_nothing_is_signed_while_the_store_cannot_be_written(kit: VaultKit) -> None:
    """Another process holds the file: the commit fails, and nothing is released or remembered."""
    kit.store.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(kit.settings.store, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert kit.refused(utxo_request(kit)) == "store_unwritable"
    other.execute("ROLLBACK")
    other.close()
    kit.signed(utxo_request(kit))


def test_crash_between_commit_and_anchor_starts_again(kit: VaultKit) -> None:
    """The store may be ahead of its anchor: the anchored record is in its log."""
    before = kit.settings.anchor.read_bytes()
    answer = kit.signed(utxo_request(kit))
    kit.store.close()
    kit.settings.anchor.write_bytes(before)
    again = open_kit(kit.folder, HandClock())
    assert again.signed(utxo_request(again)) == answer
    assert read_anchor(kit.settings.anchor).sequence == again.store.sequence
    again.store.close()


def test_paid_and_log_rows_cannot_be_changed_or_removed(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    for sql in (
        "DELETE FROM log",
        "UPDATE log SET body = ''",
        "DELETE FROM paid",
        "UPDATE paid SET family = 'x'",
    ):
        with pytest.raises(StoreError, match="cannot be written"):
            kit.store.execute(sql)


def edited(path: Path, *statements: str) -> None:
    """An attacker edits the file itself, triggers dropped first."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER log_is_append_only")
    connection.execute("DROP TRIGGER log_is_kept")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE log SET body = replace(body, 'signed', 'sigmed') WHERE sequence = 3", 3),
        ("DELETE FROM log WHERE sequence = 2", 2),
        ("DELETE FROM log WHERE sequence = 1", 1),
        (
            "UPDATE log SET sequence = CASE sequence WHEN 2 THEN -3 ELSE -2 END"
            " WHERE sequence IN (2, 3)",
            1,
        ),
        ("INSERT INTO log VALUES (0, '{}', 'x')", 1),
        ("INSERT INTO log VALUES (5, '{}', 'x')", 5),
    ],
)
def test_s17_edit_delete_reorder_or_insert_names_the_first_bad_record(
    kit: VaultKit, statement: str, first_bad: int
) -> None:
    """Records: 1 staff_add, 2 trust, 3 signed, 4 refused."""
    kit.signed(utxo_request(kit))
    kit.refused(utxo_request(kit, attempt_id="a-2", salts=(2,)))
    kit.store.close()
    assert audit.verify_chain(read_log(kit.settings.store)).first_bad is None
    edited(kit.settings.store, statement)
    assert audit.verify_chain(read_log(kit.settings.store)).first_bad == first_bad
    with pytest.raises(StoreError, match=f"broken at {first_bad}"):
        open_kit(kit.folder, HandClock())


def test_s17_rewritten_record_with_a_fitting_hash_breaks_the_next_link(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.store.close()
    body = read_log(kit.settings.store)[1][1].replace("acme", "evil")
    edited(
        kit.settings.store,
        f"UPDATE log SET body = '{body}', entry_hash = '{audit.entry_hash(body)}'"
        " WHERE sequence = 2",
    )
    assert audit.verify_chain(read_log(kit.settings.store)).first_bad == 3


def test_s17_cut_tail_is_seen_by_the_anchor(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.store.close()
    edited(kit.settings.store, "DELETE FROM log WHERE sequence = 3")
    assert audit.verify_chain(read_log(kit.settings.store)).first_bad is None
    with pytest.raises(StoreError, match="older than its anchor"):
        open_kit(kit.folder, HandClock())


def test_s17_tail_replaced_by_another_is_seen_by_the_anchor(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.store.close()
    previous = read_log(kit.settings.store)[1][2]
    body = audit.entry_body(
        sequence=3, at_seconds=1, kind="refused", previous_hash=previous, fields={}
    )
    edited(
        kit.settings.store,
        f"UPDATE log SET body = '{body}', entry_hash = '{audit.entry_hash(body)}'"
        " WHERE sequence = 3",
    )
    with pytest.raises(StoreError, match="not the one that was anchored"):
        open_kit(kit.folder, HandClock())


def test_every_signature_refusal_and_change_of_trust_is_in_the_log(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.refused(utxo_request(kit, attempt_id="a-2", salts=(2,)))
    kit.statement("freeze", {"keyid": "client-1"}, people=("alice",))
    entries = [json.loads(body) for _, body, _ in kit.store.log_rows()]
    kinds = [entry["kind"] for entry in entries]
    assert kinds == ["staff_add", "trust", "signed", "refused", "freeze"]
    assert entries[3]["fields"]["code"] == "already_paid"
    assert entries[4]["fields"]["staff"] == ["alice"]


def test_text_that_is_no_entry_is_named() -> None:
    for body in ("x", "[]", "{}", '{"sequence": 1, "previous": "y"}'):
        verdict = audit.verify_chain([(1, body, audit.entry_hash(body))])
        assert verdict.first_bad == 1


def test_log_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_log(new_folder(tmp_path) / "none.sqlite")


def newest_place(anchor: bytes) -> int:
    """Which half of the anchor file was written last."""
    sequences = [json.loads(half)["sequence"] for half in halves(anchor)]
    return sequences.index(max(sequences))


def halves(anchor: bytes) -> tuple[bytes, bytes]:
    assert len(anchor) == 2 * PLACE_BYTES
    return anchor[:PLACE_BYTES], anchor[PLACE_BYTES:]


def torn(anchor: bytes, place: int, how: str) -> bytes:
    """The file after a write to one place that stopped half way."""
    parts = list(halves(anchor))
    half = parts[place]
    parts[place] = {
        "zeros": bytes(PLACE_BYTES),
        "cut": half[:20] + bytes(PLACE_BYTES - 20),
        "mixed": half.replace(b'"sequence": ', b'"sequence":9'),
    }[how]
    return b"".join(parts)


def test_each_anchor_leaves_the_one_before_it_in_its_place(kit: VaultKit) -> None:
    before = kit.settings.anchor.read_bytes()
    for number in (1, 2, 3):
        kit.refused(utxo_request(kit, attempt_id=f"bad-{number}", payments=()))
        after = kit.settings.anchor.read_bytes()
        place = newest_place(after)
        assert halves(after)[1 - place] == halves(before)[newest_place(before)]
        assert read_anchor(kit.settings.anchor).sequence == kit.store.sequence
        before = after


@pytest.mark.parametrize("how", ["zeros", "cut", "mixed"])
def test_s09_a_torn_write_of_the_anchor_leaves_the_one_before(kit: VaultKit, how: str) -> None:
    """The power went while the anchor was written: nothing of that record had been released."""
    kit.signed(utxo_request(kit))
    kit.store.close()
    whole = kit.settings.anchor.read_bytes()
    kit.settings.anchor.write_bytes(torn(whole, newest_place(whole), how))
    assert read_anchor(kit.settings.anchor).sequence == kit.store.sequence - 1
    again = open_kit(kit.folder, HandClock())
    again.signed(utxo_request(again))
    healed = kit.settings.anchor.read_bytes()
    assert {json.loads(half)["sequence"] for half in halves(healed)} == {
        again.store.sequence,
        again.store.sequence - 1,
    }
    again.store.close()


@pytest.mark.parametrize("how", ["zeros", "cut", "mixed"])
def test_s09_an_anchor_of_two_torn_places_is_refused(kit: VaultKit, how: str) -> None:
    kit.signed(utxo_request(kit))
    kit.store.close()
    whole = kit.settings.anchor.read_bytes()
    kit.settings.anchor.write_bytes(torn(torn(whole, 0, how), 1, how))
    with pytest.raises(StoreError, match="damaged"):
        open_kit(kit.folder, HandClock())


def test_an_anchor_of_an_older_version_is_held_against_the_store(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.store.close()
    whole = kit.settings.anchor.read_bytes()
    fields = json.loads(halves(whole)[newest_place(whole)])
    del fields["check"]
    kit.settings.anchor.write_text(json.dumps(fields, sort_keys=True), "utf-8")
    again = open_kit(kit.folder, HandClock())
    again.signed(utxo_request(again))
    again.store.close()
    assert read_anchor(kit.settings.anchor).sequence == fields["sequence"]
    halves(kit.settings.anchor.read_bytes())  # and it is written in the new form
    fields["sequence"] += 1
    kit.settings.anchor.write_text(json.dumps(fields, sort_keys=True), "utf-8")
    with pytest.raises(StoreError, match="older than its anchor"):
        open_kit(kit.folder, HandClock())


def test_s09_an_anchor_that_is_taken_away_stops_every_signature(kit: VaultKit) -> None:
    """It is never made again by itself: whoever took it may have put an older store back."""
    kit.signed(utxo_request(kit))
    kit.settings.anchor.rename(kit.folder / "aside")
    again = utxo_request(kit, attempt_id="a-2")
    assert kit.refused(utxo_request(kit)) == "store_unwritable"
    assert kit.refused(again) == "store_unwritable"
    assert not kit.settings.anchor.exists()


def test_s09_a_store_without_what_it_appended_last_is_refused(kit: VaultKit) -> None:
    """A commit is appended beside the store first: without that file it is an older store."""
    kit.signed(utxo_request(kit))
    beside = Path(f"{kit.settings.store}-wal")
    old = kit.settings.store.read_bytes()
    assert beside.stat().st_size > 0
    kit.store.close()  # writes all of it into the store, and takes the file away
    assert not beside.exists()
    kit.settings.store.write_bytes(old)
    with pytest.raises(StoreError, match="older than its anchor"):
        open_kit(kit.folder, HandClock())
