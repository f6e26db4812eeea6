"""Every case that this version promises has a test that names it; docs/CASES.md lists them."""

import pytest

from tests.architecture.source import ROOT
from tests.support.generated_docs import (
    CASES,
    cases_document,
    cases_named,
    proofs_by_case,
    required_cases,
)


def test_every_required_case_is_named_by_a_test() -> None:
    proofs = proofs_by_case()
    assert [case for case in required_cases() if case not in proofs] == []


def test_cases_document_is_in_step_with_the_tests() -> None:
    assert (ROOT / CASES).read_text(encoding="utf-8") == cases_document(), "run `./cage docs`"


@pytest.mark.parametrize(
    ("name", "docstring", "cases"),
    [
        ("test_a07_parallel_requests", "", {"A07"}),
        ("test_l01_l02_books", "", {"L01", "L02"}),
        ("test_amounts", "Law of A11-A13 and D04.", {"A11", "A12", "A13", "D04"}),
        ("test_sha256_of_p2wsh", "BIP 141", set()),
    ],
)
def test_case_ids_are_found_in_names_and_docstrings(
    name: str, docstring: str, cases: set[str]
) -> None:
    assert cases_named(name, docstring) == cases
