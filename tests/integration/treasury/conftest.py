"""The house around one network, for every test of the operator's wallets."""

from tests.support.payout_fixtures import btc, eth, house, ltc, on_node, payouts_role

__all__ = ["btc", "eth", "house", "ltc", "on_node", "payouts_role"]
