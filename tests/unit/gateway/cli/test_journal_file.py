"""An exported journal: no cell is a formula, no cut file passes for a whole one."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.cli.journal_file import BrokenExport, Checked, Format, JournalWriter, check, csv_line

BIG = str(2**256 - 1)


def item(number: int, side: str = "debit", **entry: object) -> Mapping[str, Any]:
    """One item as the API answers it."""
    return {
        "id": f"post_test_{number}",
        "booked_at": "2026-01-01T00:00:00.000000Z",
        "reference": f"in:{number}",
        "kind": "test",
        "reason": None,
        "reverses": None,
        "network": None,
        "block_hash": None,
        "block_height": None,
        "entry": {
            "line": 1,
            "account": "suspense:btc:BTC",
            "kind": "suspense",
            "asset": "btc:BTC",
            "brand": None,
            "player_id": None,
            "wallet": None,
            "side": side,
            "amount": "0.00000005",
            "amount_minor": "5",
            "brand_tag": None,
            **entry,
        },
    }


def written(form: Format, *items: Mapping[str, Any]) -> str:
    writer = JournalWriter(form)
    return writer.begin() + writer.add(items) + writer.end()


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\x00", "\uff1d"])
def test_a43_a_cell_that_a_spreadsheet_would_run_is_neutralised(first: str) -> None:
    evil = f"{first}cmd|' /C calc'!A0"
    [[cell]] = csv.reader(io.StringIO(csv_line([evil]), newline=""))
    assert cell == f"'{evil}"
    text = written(Format.CSV, item(1, player_id=evil))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0]["player_id"] == f"'{evil}"


@pytest.mark.parametrize("plain", ["", "anna", "a=b", "12.5", "player-1", "ü"])
def test_a43_a_plain_cell_stays_what_it_is(plain: str) -> None:
    [cells] = csv.reader(io.StringIO(csv_line([plain, "x"]), newline=""))
    assert cells == [plain, "x"]


@pytest.mark.parametrize("form", Format)
def test_amounts_are_exact_and_totals_stand_at_the_end(form: Format) -> None:
    text = written(
        form,
        item(1, amount=BIG, amount_minor=BIG, asset="eth:ETH"),
        item(2, "credit", amount=BIG, amount_minor=BIG, asset="eth:ETH"),
        item(3),
    )
    lines = text.splitlines()
    assert check(text.encode().splitlines(keepends=True)).entries == 3
    if form is Format.CSV:
        assert lines[-3:-1] == ["#total,btc:BTC,1,5,0", f"#total,eth:ETH,2,{BIG},{BIG}"]
        assert lines[0].startswith("booked_at,posting_id,reference")
    else:
        assert json.loads(lines[-2])["debits_minor"] == BIG
        assert json.loads(lines[0])["amount_minor"] == BIG


@pytest.mark.parametrize("form", Format)
def test_an_export_of_nothing_is_whole_too(form: Format) -> None:
    assert check(written(form).encode().splitlines(keepends=True)) == Checked(
        entries=0, digest=check(written(form).encode().splitlines(keepends=True)).digest
    )


@pytest.mark.parametrize("form", Format)
def test_every_cut_of_an_export_is_seen(form: Format) -> None:
    data = written(form, item(1), item(2, "credit")).encode()
    check(data.splitlines(keepends=True))
    for end in range(len(data)):
        with pytest.raises(BrokenExport):
            check(data[:end].splitlines(keepends=True))


@pytest.mark.parametrize("form", Format)
def test_a_line_changed_left_out_or_doubled_is_seen(form: Format) -> None:
    lines = written(form, item(1), item(2, "credit")).encode().splitlines(keepends=True)
    for wrong in (
        [line.replace(b"0.00000005", b"0.00000006") for line in lines],
        [*lines[:1], *lines[2:]],
        [*lines[:2], *lines[1:]],
    ):
        with pytest.raises(BrokenExport):
            check(wrong)
