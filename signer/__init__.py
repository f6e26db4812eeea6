"""The vault: an island with its own process, decoder, policy and audit log.

It imports nothing of the house; the house imports `signer.protocol` only.
"""
