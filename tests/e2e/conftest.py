"""One deployment per module: set-up takes longer than most of the acts."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("tests.support.live")

from tests.support.live import Live, live  # noqa: E402 (its asserts are rewritten first)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    node_programs: dict[str, Path], request: pytest.FixtureRequest
) -> AsyncIterator[Live]:
    """A funded deployment with every role running. Its folder's name is short (sockets); after a
    failure it is kept, for its logs and its database."""
    failed_before = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="cage-e2e-"))
    async with live(folder, node_programs) as running:
        yield running
    if request.session.testsfailed == failed_before:
        shutil.rmtree(folder, ignore_errors=True)
