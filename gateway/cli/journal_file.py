"""An exported journal as text: CSV or JSON lines, with an end by which a cut file is known.

Pure: it makes lines and checks lines. A cell that a spreadsheet would run as a formula gets a
leading apostrophe (A43); amounts are exact decimals and minor units. The last lines tell the totals
per asset and the SHA-256 of every byte before the digest's own line.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

COLUMNS = (
    "booked_at", "posting_id", "reference", "kind", "line", "account", "account_kind", "asset",
    "brand", "player_id", "wallet", "side", "amount", "amount_minor", "brand_tag", "network",
    "block_hash", "block_height", "reverses", "reason",
)  # fmt: skip
# OWASP, "CSV Injection": what spreadsheets take for a formula, in its full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
TOTAL_MARK = "#total"
DIGEST_MARK = "#sha256"


class Format(StrEnum):
    """How a journal is written."""

    CSV = "csv"
    """RFC 4180, with a line of names first."""
    JSONL = "jsonl"
    """One JSON object per line."""


@dataclass(slots=True, kw_only=True)
class _Total:
    entries: int = 0
    debits: int = 0
    credits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a whole export holds."""

    entries: int
    digest: str


class BrokenExport(Exception):
    """The file is cut, changed, or no export."""


class JournalWriter:
    """Turns items of `GET /v1/ledger/entries` into the lines of one file; holds no line."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._digest = hashlib.sha256()
        self._totals: dict[str, _Total] = {}
        self.entries = 0

    def begin(self) -> str:
        """What comes before the first entry."""
        return self._told(csv_line(COLUMNS)) if self._form is Format.CSV else ""

    def add(self, items: Iterable[Mapping[str, Any]]) -> str:
        """The lines of some entries."""
        return "".join(self._told(self._line(item)) for item in items)

    def end(self) -> str:
        """The totals per asset, and the digest of everything before it."""
        text = ""
        for asset, total in sorted(self._totals.items()):
            values = [total.entries, str(total.debits), str(total.credits)]
            text += self._told(
                csv_line((TOTAL_MARK, asset, *values))
                if self._form is Format.CSV
                else _json_line(
                    {
                        "total": asset,
                        "entries": values[0],
                        "debits_minor": values[1],
                        "credits_minor": values[2],
                    }
                )
            )
        digest = self._digest.hexdigest()
        if self._form is Format.CSV:
            return text + csv_line((DIGEST_MARK, digest, self.entries))
        return text + _json_line({"sha256": digest, "entries": self.entries})

    def _line(self, item: Mapping[str, Any]) -> str:
        row = _row(item)
        total = self._totals.setdefault(row["asset"], _Total())
        total.entries += 1
        if row["side"] == "debit":
            total.debits += int(row["amount_minor"])
        else:
            total.credits += int(row["amount_minor"])
        self.entries += 1
        if self._form is Format.CSV:
            return csv_line([row[name] for name in COLUMNS])
        return _json_line(row)

    def _told(self, line: str) -> str:
        self._digest.update(line.encode("utf-8"))
        return line


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV (RFC 4180) whose cells no spreadsheet runs."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def check(lines: Iterable[bytes]) -> Checked:
    """Read an export line by line. Raises BrokenExport when it has no end or another digest."""
    digest = hashlib.sha256()
    last = b""
    count = 0
    for line in lines:
        if last:
            digest.update(last)
            count += 1
        last = line
    told, entries = _end(last)
    if told != digest.hexdigest():
        raise BrokenExport("the SHA-256 of its lines is another: it was changed")
    return Checked(entries=entries, digest=told)


def _end(line: bytes) -> tuple[str, int]:
    text = line.decode("utf-8", errors="replace")
    try:
        if text.startswith(DIGEST_MARK):
            _, told, entries = next(csv.reader([text]))
        else:
            found = json.loads(text)
            told, entries = found["sha256"], found["entries"]
        if not text.endswith("\n"):
            raise ValueError("no line end")
        return str(told), int(entries)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise BrokenExport("its last line is no digest: it was cut") from error


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if text.startswith(_FORMULA) or (text and not text[0].isprintable()):
        return f"'{text}"
    return text


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    entry = item["entry"]
    return {
        "booked_at": item["booked_at"],
        "posting_id": item["id"],
        **{name: item[name] for name in ("reference", "kind", "network", "block_hash")},
        **{name: item[name] for name in ("block_height", "reverses", "reason")},
        "account_kind": entry["kind"],
        **{name: entry[name] for name in ("line", "account", "asset", "brand", "player_id")},
        **{name: entry[name] for name in ("wallet", "side", "amount", "amount_minor")},
        "brand_tag": entry["brand_tag"],
    }


def _json_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
