"""Generated documents are in step with the tables they are made from."""

from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.support.generated_docs import STATES, states_document

ADR_SECTIONS = ("## Context", "## Drivers", "## Options", "## Outcome", "## Consequences")


def test_states_document_equals_the_lifecycle_tables() -> None:
    assert (ROOT / STATES).read_text(encoding="utf-8") == states_document(), "run `./cage docs`"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda p: p.name)
def test_every_decision_has_the_sections_of_the_template(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [section for section in ADR_SECTIONS if section not in text] == []
