"""How many walks there are."""

import pytest


@pytest.fixture
def walks(pytestconfig: pytest.Config) -> int:
    """How many walks on each node."""
    count: int = pytestconfig.getoption("--walks")
    return count
