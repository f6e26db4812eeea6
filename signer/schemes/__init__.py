"""One module per chain family: the signer's own decoding, address parsing and signatures.

It shares no code with the builders in `watchers`: a verifier that shares code shares its bugs.
"""
