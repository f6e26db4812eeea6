"""Cold wallets of the tests: descriptors of public test seeds, and where their keys are.

The private halves are here because nothing of the house may have them: a test that needs a cold
signature makes it by itself, as a stranger would.
"""

from typing import Final

from embit import bip32
from embit.descriptor.checksum import add_checksum
from embit.networks import NETWORKS

COLD_SEED: Final = b"cold" * 16
COLD_ETH_ADDRESS: Final = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"  # a vector of EIP-55
ORIGIN: Final = "84h/1h/0h"


def cold_root(number: int = 0, *, network: str = "regtest") -> bip32.HDKey:
    """The private root of one cold key."""
    version = NETWORKS[network]["xprv"]
    return bip32.HDKey.from_seed(COLD_SEED + bytes([number]), version=version)


def cold_key(number: int = 0) -> str:
    """One key of a descriptor: origin, extended public key and branches."""
    root = cold_root(number)
    account = root.derive(f"m/{ORIGIN}").to_public().to_base58()
    return f"[{root.my_fingerprint.hex()}/{ORIGIN}]{account}/<0;1>/*"


def single_descriptor() -> str:
    """wpkh of one key."""
    return str(add_checksum(f"wpkh({cold_key()})"))


def multi_descriptor() -> str:
    """2 of 3."""
    keys = ",".join(cold_key(number) for number in range(3))
    return str(add_checksum(f"wsh(sortedmulti(2,{keys}))"))


COLD_BTC_DESCRIPTOR: Final = single_descriptor()
COLD_BTC_ADDRESS: Final = "bcrt1qyem3d2af607nrt5n9mysrgy4ys4ly59rzv5fzp"  # its `0/0`
