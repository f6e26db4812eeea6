"""What can go wrong in the vault, as one tree.

    SignerError
    ├── ConfigurationError   the settings, the files or the command are wrong (exit 2)
    ├── KeyringError         the key file does not open
    ├── TokenError           the hardware token is gone, locked or failing: sign nothing
    │   └── PinRefused       the token said no to the PIN: it is not tried again
    ├── StoreError           the store, its lock or its anchor cannot be trusted: sign nothing
    └── Refused              a request was understood and is not allowed; carries a `RefusalCode`

Texts never carry a secret.
"""

from enum import StrEnum


class SignerError(Exception):
    """The root of the tree."""


class ConfigurationError(SignerError):
    """The settings, the files or the command are wrong; names what and the right form."""


class KeyringError(SignerError):
    """The key file does not open: wrong passphrase, altered bytes, or wrong mode."""


class TokenError(SignerError):
    """The hardware token is gone, locked or failing, or does not hold the key."""


class PinRefused(TokenError):
    """The token said no to the PIN. It is not tried again: tokens lock themselves."""


class StoreError(SignerError):
    """The store, its lock or its anchor cannot be trusted or written."""


class RefusalCode(StrEnum):
    """Why the signer said no. Stable: callers and alarms key on it."""

    BAD_REQUEST = "bad_request"
    """The message is not one of the protocol."""
    UNKNOWN_NETWORK = "unknown_network"
    """The network is not in the signer's own settings."""
    STALE_EPOCH = "stale_epoch"
    """A newer worker has spoken for this network."""
    ATTEMPT_MISMATCH = "attempt_mismatch"
    """The attempt id was used with other bytes."""
    UNAUTHENTIC = "unauthentic"
    """The client's signature, digest, covered components or route do not hold."""
    UNKNOWN_KEY = "unknown_key"
    """The signing key is not in the signer's register."""
    KEY_NOT_TRUSTED = "key_not_trusted"
    """The key is frozen, revoked, expired, or not for this brand or asset."""
    BAD_ORDER = "bad_order"
    """The signed body is not a well-formed withdrawal."""
    NOT_SUPPORTED = "not_supported"
    """Well formed, but the signer's settings do not let it speak of this."""
    EXPIRED = "expired"
    """Past `valid_until`: no first signature."""
    VOIDED = "voided"
    """The order was given up: no first signature any more."""
    BAD_CANCEL = "bad_cancel"
    """The signed cancel is not well formed, or it gave up another order."""
    PAYMENT_MISMATCH = "payment_mismatch"
    """The tx does not pay exactly what the client signed."""
    FOREIGN_OUTPUT = "foreign_output"
    """An output is neither a payment nor change to an own re-derived path."""
    FOREIGN_INPUT = "foreign_input"
    """An input is not of the key it claims."""
    UNPROVEN_INPUT = "unproven_input"
    """An input's amount is not proven by its previous tx."""
    UNDECODABLE = "undecodable"
    """The unsigned bytes are not a tx of the network's only accepted form."""
    FORBIDDEN_SHAPE = "forbidden_shape"
    """A tx shape that is not on the allow-list."""
    WRONG_NETWORK = "wrong_network"
    """The chain id, key or address belongs to another network."""
    FEE_TOO_HIGH = "fee_too_high"
    """Over the absolute or the rate ceiling of the network's fee."""
    CAP_EXCEEDED = "cap_exceeded"
    """Over a cap per tx or payment, or more than a whole hour or day may take: time cures nothing,
    a smaller tx may."""
    CAP_WINDOW = "cap_window"
    """Over what is left of a cap per hour or day: time or a smaller tx cures it."""
    ALREADY_PAID = "already_paid"
    """The (brand, request_id) belongs to a family that this tx does not continue."""
    NOT_EXCLUSIVE = "not_exclusive"
    """The attempt could confirm beside an earlier one of its family."""
    FEE_NOT_HIGHER = "fee_not_higher"
    """A replacement must pay more than each earlier attempt."""
    NONCE_USED = "nonce_used"
    """The (account, nonce) belongs to what was first signed at it."""
    BAD_PATH = "bad_path"
    """A derivation path outside the house's fixed shape or role."""
    FOREIGN_PATH = "foreign_path"
    """No deposit path, or one of another brand's account."""
    UNKNOWN_BRAND = "unknown_brand"
    """The brand is not in the signer's own settings."""
    BOUND = "bound"
    """The deposit path belongs to another player, for ever."""
    NOT_OWN_PARENT = "not_own_parent"
    """A CPFP child that spends no output of an own earlier tx."""
    STORE_UNWRITABLE = "store_unwritable"
    """The store or its anchor cannot be written: nothing is signed."""
    TOKEN_UNAVAILABLE = "token_unavailable"
    """The hardware token that seals the keys does not prove itself: nothing is signed."""
    UNKNOWN_PEER = "unknown_peer"
    """The caller's OS user is not on the list."""
    NEEDS_STAFF = "needs_staff"
    """The staff signatures are missing, not distinct, stale or used before."""
    HALTED = "halted"
    """A person stopped every signature; two let them go on (S16)."""
    RATE_LIMITED = "rate_limited"
    """More requests to sign than a minute may have: asked again later, it is judged as ever."""
    NOT_PINNED = "not_pinned"
    """A move to cold whose address is not pinned, or was pinned less than a day ago (S06)."""
    TRUST_CONFLICT = "trust_conflict"
    """The register already says something else about this key."""


class Refused(SignerError):
    """A request that is understood and not allowed."""

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(f"{code.value}: {reason}")
        self.code = code
        self.reason = reason
