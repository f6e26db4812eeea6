"""The house around one simulated network, for every test of the payout road."""

from tests.support.payout_fixtures import btc, eth, house, ltc, on_node, payouts_role

__all__ = ["btc", "eth", "house", "ltc", "on_node", "payouts_role"]
