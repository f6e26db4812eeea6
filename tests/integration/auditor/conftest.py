"""The fixtures of the payout road, which fill every table that the auditor reads."""

from tests.support.payout_fixtures import btc, house, payouts_role

__all__ = ["btc", "house", "payouts_role"]
