"""Tables for people: whatever the terminal's width, no amount and no name is ever cut."""

import pytest

from gateway.cli.console import table_text

COLUMNS = ("wallet", "books>", "detail")
ROWS = (
    ("eth/deposit/acme", "8.74978264686744806", "ok"),
    ("btc/hot", None, "as of btc 156 " + "6b2e3bc5" * 8),
)


def words(text: str) -> str:
    """Without spaces and line ends."""
    return "".join(text.split())


@pytest.mark.parametrize("width", [None, 200, 80, 72, 60, 40, 10])
def test_every_cell_stands_whole_at_any_width(width: int | None) -> None:
    text = table_text(COLUMNS, ROWS, width=width)
    for row in ROWS:
        *whole, detail = ["-" if cell is None else cell for cell in row]
        assert all(cell in text for cell in whole)
        assert words(detail) in words(text)


def test_a_file_gets_one_line_for_each_row() -> None:
    lines = table_text(COLUMNS, ROWS).splitlines()
    assert [len(lines), lines[2].split()[:2]] == [3, ["btc/hot", "-"]]
    assert lines[2].rstrip().endswith("6b2e3bc5" * 8)


def test_numbers_stand_to_the_right() -> None:
    lines = table_text(COLUMNS, ROWS).splitlines()
    end = lines[1].index("8.74978264686744806") + len("8.74978264686744806")
    assert lines[0][:end].endswith("books")
    assert lines[2][:end].endswith("-")


def test_the_last_column_goes_on_below_its_line() -> None:
    lines = table_text(COLUMNS, ROWS, width=80).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80


def test_a_terminal_that_is_too_narrow_gets_the_rows_line_by_line() -> None:
    text = table_text(COLUMNS, ROWS, width=40)
    assert text.startswith("wallet  eth/deposit/acme\nbooks   8.74978264686744806\ndetail  ok\n\n")


def test_a_value_moves_no_cursor() -> None:
    assert table_text(("a",), (("x\x1b[2Jy",),)).splitlines()[1].rstrip() == "x?[2Jy"


def test_an_empty_table_shows_its_head() -> None:
    assert table_text(COLUMNS, ()).split() == ["wallet", "books", "detail"]
