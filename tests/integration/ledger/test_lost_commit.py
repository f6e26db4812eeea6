"""P07: a connection lost during COMMIT. The client hears the same either way, so it reads back."""

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from ledger import journal
from ledger.journal import Posting, credit, debit
from tests.integration.ledger.conftest import AT, CLEARING, HOT, Books
from tests.support.auditor import audit
from tests.support.databases import TestDatabase
from tests.support.pgproxy import commit_cutter

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "lost"])
async def test_p07_a_posting_whose_commit_was_lost_is_read_back_by_its_reference(
    test_database: TestDatabase, books: Books, session_folder: Path, is_committed: bool
) -> None:
    """The same posting and the same reservation again: each is there exactly once."""
    await books.fund(100)
    folder = session_folder / f"ledger-{is_committed}"
    folder.mkdir()
    posting = Posting(reference="in", kind="test", entries=(debit(HOT, 7), credit(CLEARING, 7)))
    first_id, hold_id = books.ids.new_id(), books.ids.new_id()
    async with commit_cutter(test_database.role_url("gateway_api"), folder) as (cutter, url):
        cut = Database(async_url(url), pool_size=1)
        through = Books(cut, books.ids)
        cutter.cut_next(1, reaches_server=is_committed)
        with pytest.raises(DBAPIError) as lost:
            async with cut.unit_of_work() as uow:
                await journal.post(uow, posting, posting_id=first_id, at=AT)
        assert "closed in the middle" in str(lost.value)

        async with cut.unit_of_work() as uow:
            again = await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)
        assert again.is_new is not is_committed
        assert (again.posting_id == first_id) is is_committed

        cutter.cut_next(1, reaches_server=is_committed)
        with pytest.raises(DBAPIError):
            await through.place(60, hold_id=hold_id)
        assert await through.place(60, hold_id=hold_id) is True
        assert cutter.cuts == 2
        await cut.close()

    assert await books.balance(CLEARING) == 47
    assert await audit(books.database.engine, at_rest=False) == []
