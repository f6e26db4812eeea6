"""A deposit as the watcher's row tells it; what a test needs otherwise it replaces."""

from uuid import UUID

from tests.support.clock import START
from watchers.deposits import DepositRow, DepositState

PENDING = DepositRow(
    id=UUID(int=1),
    brand="acme",
    player_id="anna",
    network="btc",
    txid="aa" * 32,
    position="out:0",
    cycle=1,
    asset="btc:BTC",
    amount_minor=50_000_000,
    address_id=UUID(int=2),
    address="bcrt1q",
    state=DepositState.PENDING,
    prior_state=None,
    substatus=None,
    sweep_state="none",
    is_internal=False,
    is_coinbase=False,
    block_hash="bb" * 32,
    height=100,
    min_depth=2,
    full_depth=6,
    provisional_at_height=101,
    final_at_height=105,
    orphaned_at_height=None,
    absent_at_height=None,
    conflict_txid=None,
    conflict_final_at_height=None,
    credited_stage=None,
    custody_block_hash=None,
    custody_height=None,
    version=1,
    first_seen_at=START,
    state_at=START,
)
"""Half a bitcoin of anna, at height 100: provisional at 101, final at 105."""
