"""docs/FEATURES.md claims only what a test of this tree can show."""

import re

import pytest

from tests.architecture.source import ROOT

_ROW = re.compile(r"^\| (?P<id>[A-Z]\d+) \| .* \| (?P<state>[a-z ]+) \| (?P<proof>.*) \|$", re.M)
_PROOF = re.compile(r"`(?P<file>[a-z0-9_/]+\.py)(?:::(?P<test>test_[a-z0-9_]+))?`")

ROWS = [match.groupdict() for match in _ROW.finditer((ROOT / "docs" / "FEATURES.md").read_text())]


def test_no_feature_is_listed_twice() -> None:
    ids = [row["id"] for row in ROWS]
    assert len(ids) > 100
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_what_works_names_a_test_that_exists(row: dict[str, str]) -> None:
    assert row["state"] in {"works", "partly", "not yet"}
    proofs = [match.groupdict() for match in _PROOF.finditer(row["proof"])]
    assert proofs or row["state"] != "works"
    for proof in proofs:
        text = (ROOT / "tests" / proof["file"]).read_text(encoding="utf-8")
        assert proof["test"] is None or f"def {proof['test']}(" in text
