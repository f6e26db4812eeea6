-- A number that was given back and that an authorisation used since (docs/adr/0035) is free no more:
-- payouts, which plans by the chain's count, forgets it.
GRANT DELETE ON chain.nonce_uses TO gateway_payouts;
