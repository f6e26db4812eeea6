"""Spending from a cold wallet whose keys are elsewhere: values, and what comes back signed.

Pure values. Families build and read in `watchers/chains/<family>/`, through `registry`. Nothing
here signs: a plan leaves as a file, signatures come back as files and count only when they verify.
"""

from dataclasses import dataclass

from watchers.chain import Coin, Pay


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdCoin:
    """A coin of a cold wallet, and where in the wallet its address is."""

    coin: Coin
    branch: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdPlace:
    """An address of a cold wallet by branch (0 receive, 1 change) and index."""

    branch: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdPlan:
    """What to build on a UTXO chain from coins of one descriptor. `change` is None when there is
    none; amounts in minor units."""

    descriptor: str
    coins: tuple[ColdCoin, ...]
    payment: Pay
    change: ColdPlace | None
    change_minor: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ColdSignature:
    """One signature that verified: over the whole plan, by a key of the spent coin.

    `signature`: DER with its sighash byte (UTXO), or r, s and parity by the account `public_key`,
    its 20 bytes (account chains).
    """

    input_index: int
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdProgress:
    """How far a plan is signed. `raw` and `txid`: the network's bytes, once complete.

    `txid`: on UTXO chains known before. `signed_by`: fingerprints (hex) of the wallets whose keys
    signed every input, or the account; `needed` of them complete it.
    """

    raw: bytes | None
    txid: str | None
    needed: int
    signed_by: tuple[str, ...]
    waits_for: tuple[str, ...]
