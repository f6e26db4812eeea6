"""EVM chains (native coin and ERC-20 tokens) over Ethereum JSON-RPC.

Imports nothing: the verifier's process loads what verifies a block, and no node client (ADR 0021).
"""
