"""A trusted signer per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vault import VaultKit, trusted_kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[VaultKit]:
    """A signer that trusts one client of brand `acme`."""
    made = trusted_kit(tmp_path)
    yield made
    made.store.close()
