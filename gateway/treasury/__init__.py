"""The operator's wallets: what they hold, what they will need, and when they leave their bands."""
