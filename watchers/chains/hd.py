"""Public child keys below an account-level xpub (BIP 32), shared by families on secp256k1.

Pure; refuses private keys, keys of another network or level, and keys of another account.
"""

from collections.abc import Set

from embit import base58, bip32
from embit.base import EmbitError

from watchers.errors import InvalidAddress

HARDENED = 1 << 31
SERIALISED_BYTES = 78  # BIP 32, Serialization format
ACCOUNT_DEPTH = 3  # m / purpose / coin type / account (BIP 44)


def child_public_key(
    xpub: str, *, account: int, chain: int, index: int, versions: Set[bytes], is_compressed: bool
) -> bytes:
    """The public key at `chain/index` below `xpub`, which must be that of `account`.

    Raises `InvalidAddress`. `versions` are the base58 prefixes that the network's xpubs may have.
    """
    if not (0 <= chain < HARDENED and 0 <= index < HARDENED):
        raise InvalidAddress("derivation index out of range", remedy="use 0 to 2^31-1")
    try:
        if len(base58.decode_check(xpub)) != SERIALISED_BYTES:
            raise ValueError("length")
        key = bip32.HDKey.from_base58(xpub)
    except (EmbitError, ValueError, RuntimeError) as error:
        raise InvalidAddress("not an extended public key", remedy="export it again") from error
    if key.is_private:
        raise InvalidAddress("an extended private key", remedy="export the public one")
    if key.version not in versions or key.depth != ACCOUNT_DEPTH:
        raise InvalidAddress(
            "extended key of another network or level", remedy="export the account's key"
        )
    if key.child_number != HARDENED + account:
        raise InvalidAddress(
            f"extended key is not that of account {account}", remedy="export that account"
        )
    public = key.derive([chain, index]).key
    public.compressed = is_compressed
    return bytes(public.sec())
