"""What a chain binds, and the file of its heads: pure, and a file."""

from pathlib import Path
from typing import Any

import pytest

from gateway import anchors
from gateway.anchors import Anchor, Head
from gateway.audit_chain import BrokenChain, ChainCheck, parse_json, row_hash
from ledger.chain_of_seals import GENESIS_HASH, seal_hash

ROW: dict[str, Any] = {
    "id": "aud_test_" + "0" * 31 + "1",
    "at": "2026-01-01T00:00:00.000000Z",
    "actor": "ada",
    "action": "switch.changed",
    "subject_kind": "switch",
    "subject": "network:btc/all",
    "brand": None,
    "before": {"state": "stopped", "version": 1},
    "after": {"state": "running", "version": 2},
    "reason": "wörd",
    "correlation": "tx:7",
}
ONE = Anchor(at="t", audit=Head(sequence=1, hash="a" * 64), journal=Head(sequence=0, hash="0" * 64))
TWO = Anchor(at="u", audit=Head(sequence=2, hash="b" * 64), journal=Head(sequence=1, hash="c" * 64))


# printf '{"fields":{"a":[1,null],"b":"\u00f6"},"previous":"000...0","sequence":1}' | sha256sum
_SHA_OF_LINE = "9218e94a9622207c918213c45c41a5fd298ff62750dedce3be728bad4114db1d"


def _record(sequence: int, previous: str, row: dict[str, Any]) -> dict[str, Any]:
    found = row_hash(row, sequence=sequence, previous_hash=previous)
    return {"sequence": sequence, "previous_hash": previous, "hash": found, "row": row}


def test_the_hash_is_that_of_its_text_and_stays_so() -> None:
    """SHA-256 of the line, made by another tool: who keeps an old export checks it for ever."""
    assert seal_hash(sequence=1, previous_hash=GENESIS_HASH, fields={"b": "ö", "a": [1, None]}) == (
        _SHA_OF_LINE
    )


@pytest.mark.parametrize("field", [name for name in ROW if name != "id"])
def test_every_field_of_a_row_is_bound(field: str) -> None:
    first = row_hash(ROW, sequence=1, previous_hash=GENESIS_HASH)
    assert row_hash({**ROW, field: "other"}, sequence=1, previous_hash=GENESIS_HASH) != first


def test_the_order_of_keys_and_the_prefix_of_the_id_are_not() -> None:
    turned = dict(reversed(ROW.items())) | {"id": "0" * 31 + "1"}
    turned["after"] = dict(reversed(ROW["after"].items()))
    assert row_hash(turned, sequence=1, previous_hash=GENESIS_HASH) == row_hash(
        ROW, sequence=1, previous_hash=GENESIS_HASH
    )
    other = {**ROW, "id": "0" * 31 + "2"}
    assert row_hash(other, sequence=1, previous_hash=GENESIS_HASH) != row_hash(
        ROW, sequence=1, previous_hash=GENESIS_HASH
    )


def test_a_fraction_stays_the_text_that_it_is() -> None:
    assert parse_json('{"a": 1.10, "b": 115792089237316195423570985008687907853269984665640}') == {
        "a": "1.10",
        "b": 115792089237316195423570985008687907853269984665640,
    }
    assert parse_json(None) is None


def test_records_in_another_order_twice_or_left_out_are_found() -> None:
    first = _record(1, GENESIS_HASH, ROW)
    second = _record(2, first["hash"], {**ROW, "actor": "grace"})
    ChainCheck().add_all([first, second])
    for records, sequence in (
        ([second, first], 1),
        ([first, first], 2),
        ([second], 1),
        ([first, _record(2, GENESIS_HASH, ROW)], 2),
        ([first, {**second, "row": None}], 2),
        ([first, {"sequence": 2}], 2),
        ([first, {**second, "row": {"actor": "grace"}}], 2),
    ):
        with pytest.raises(BrokenChain) as found:
            ChainCheck().add_all(records)
        assert found.value.sequence == sequence


def test_the_newest_whole_line_counts(tmp_path: Path) -> None:
    file = tmp_path / "heads" / "anchors.jsonl"
    assert anchors.newest(file) is None
    anchors.append(file, ONE)
    anchors.append(file, TWO)
    assert anchors.newest(file) == TWO
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_line_that_a_power_cut_tore_is_none_and_the_next_is_whole(
    tmp_path: Path, kept: int
) -> None:
    file = tmp_path / "anchors.jsonl"
    anchors.append(file, ONE)
    whole = file.read_bytes()
    anchors.append(file, TWO)
    torn = file.read_bytes()[len(whole) :][:kept]
    file.write_bytes(whole + torn)
    assert anchors.newest(file) == ONE
    anchors.append(file, TWO)
    assert anchors.newest(file) == TWO


def test_a_file_of_something_else_is_no_anchor(tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    file.write_text("hello\n[]\n")
    with pytest.raises(ValueError, match="no anchor"):
        anchors.newest(file)
