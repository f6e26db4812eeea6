"""The house's derivation paths: one fixed shape per family, and the role each path plays.

UTXO `m/84h/<coin>h/<account>h/<chain>/<index>` (BIP-84), EVM `m/44h/60h/<account>h/<chain>/<index>`
(BIP-44). Account 0 is the operator's: UTXO chain 0 hot, chain 1 change; EVM chain 0 hot lanes,
chain 1 gas; both chain 5 warm. Accounts from 1 are a brand's deposit addresses on chain 0. It must
not touch keys.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from signer.errors import RefusalCode, Refused
from signer.settings import Family, NetworkSettings

_SHAPE = re.compile(
    r"m/(84|44)[h']/(0|[1-9][0-9]{0,9})[h']/(0|[1-9][0-9]{0,9})[h']/([015])/(0|[1-9][0-9]{0,9})",
    re.ASCII,
)
_LIMIT = 2**31  # BIP-32: indexes from here on are hardened
WARM_CHAIN = 5  # 2 to 4 are no branches of these keys (docs/adr/0043)
_PURPOSE = {Family.BITCOIN: 84, Family.EVM: 44}


class Role(StrEnum):
    """What an own path is for."""

    HOT = "hot"
    """Operator's payout wallet: UTXO receive addresses, EVM lanes."""
    CHANGE = "change"
    """Operator's UTXO change."""
    GAS = "gas"
    """Operator's EVM accounts that fund gas."""
    WARM = "warm"
    """Operator's reserve: two people sign each move from and to it."""
    DEPOSIT = "deposit"
    """A brand's deposit address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPath:
    """A parsed path of ours; `text` is its one canonical writing."""

    purpose: int
    coin: int
    account: int
    chain: int
    index: int
    role: Role

    @property
    def text(self) -> str:
        """Canonical writing, hardened levels as `h`."""
        head = f"m/{self.purpose}h/{self.coin}h/{self.account}h"
        return f"{head}/{self.chain}/{self.index}"


def parse_path(text: str, network: NetworkSettings) -> OwnPath:
    """Parse a path and check it against the network; raises Refused (`bad_path`)."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise Refused(RefusalCode.BAD_PATH, "not a path of the house's shape")
    purpose, coin, account, chain, index = (int(part) for part in match.groups())
    if purpose != _PURPOSE[network.family] or coin != network.coin_type:
        raise Refused(RefusalCode.BAD_PATH, f"{text} is not a path of {network.name}")
    if account >= _LIMIT or index >= _LIMIT:
        raise Refused(RefusalCode.BAD_PATH, f"{text}: an index is too large")
    return OwnPath(
        purpose=purpose,
        coin=coin,
        account=account,
        chain=chain,
        index=index,
        role=_role(network.family, account=account, chain=chain),
    )


def account_path(network: NetworkSettings, account: int) -> str:
    """The path of one account's key, whose xpub is exported."""
    return f"m/{_PURPOSE[network.family]}h/{network.coin_type}h/{account}h"


def _role(family: Family, *, account: int, chain: int) -> Role:
    if account > 0:
        if chain != 0:
            raise Refused(RefusalCode.BAD_PATH, "a brand's account has chain 0 only")
        return Role.DEPOSIT
    if chain == 0:
        return Role.HOT
    if chain == WARM_CHAIN:
        return Role.WARM
    return Role.CHANGE if family is Family.BITCOIN else Role.GAS
