"""Bitcoin-family chains (BTC, LTC) over Core-compatible JSON-RPC.

Imports nothing: the verifier's process loads what verifies a block, and no node client (ADR 0021).
"""
