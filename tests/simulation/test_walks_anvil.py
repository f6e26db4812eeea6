"""Random walks of the deposit road on anvil: whatever happened, the books are the chain's.

`./cage test --walks 300` makes more of them; `--seed` says where they begin.
"""

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.node, pytest.mark.slow]


def test_walks_on_anvil_end_with_the_books_of_the_chain(walk_on: Callable[[str], None]) -> None:
    walk_on("anvil")
