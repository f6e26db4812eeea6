"""Segwit addresses (BIP 173, BIP 350): lower-case text to witness version and program. Pure.

embit's decoder takes several times as long, which shows where each order is answered; it stays the
oracle of the tests. What a version means, and which are taken, is the codec's.
"""

from functools import reduce
from operator import xor

TEXT_LENGTH_MAX = 90  # BIP 173
_DIGITS = {digit: value for value, digit in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_CHECKSUM_DIGITS = 6
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_STEPS = tuple(  # of the polynomial, by the five bits that leave it
    reduce(xor, (part for place, part in enumerate(_GENERATOR) if bits >> place & 1), 0)
    for bits in range(32)
)
_BECH32, _BECH32M = 1, 0x2BC830A3
_VERSION_MAX = 16
_PROGRAM_BYTES = range(2, 41)
_PROGRAM_BYTES_V0 = (20, 32)


def decode(hrp: str, text: str) -> tuple[int, bytes] | None:
    """Witness version and program; None for a wrong prefix, digit, checksum, length or padding."""
    prefix, data = f"{hrp}1", text[len(hrp) + 1 :]
    if not text.startswith(prefix) or len(text) > TEXT_LENGTH_MAX:
        return None
    values = [_DIGITS.get(digit, -1) for digit in data]
    if len(values) <= _CHECKSUM_DIGITS or -1 in values:
        return None
    version, program = values[0], values[1:-_CHECKSUM_DIGITS]
    letters = hrp.encode("ascii")
    spread = (*(letter >> 5 for letter in letters), 0, *(letter & 31 for letter in letters))
    if _remainder((*spread, *values)) != (_BECH32M if version else _BECH32):
        return None
    found = _eight_bits(program)
    if found is None or version > _VERSION_MAX or len(found) not in _PROGRAM_BYTES:
        return None
    if version == 0 and len(found) not in _PROGRAM_BYTES_V0:
        return None
    return version, found


def _remainder(values: tuple[int, ...]) -> int:
    """The checksum's polynomial over values of five bits."""
    result = 1
    for value in values:
        result = (result & 0x1FFFFFF) << 5 ^ value ^ _STEPS[result >> 25]
    return result


def _eight_bits(values: list[int]) -> bytes | None:
    """The bytes of values of five bits; None where what is left over is a digit, or not zero."""
    number = 0
    for value in values:
        number = number << 5 | value
    count, padding = divmod(5 * len(values), 8)
    if padding > 4 or number & ((1 << padding) - 1):
        return None
    return (number >> padding).to_bytes(count, "big")
