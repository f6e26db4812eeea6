"""QR codes of files that go to devices."""

import segno

from gateway.api.addresses import QR_MASK

QR_BYTES_MAX = 2_953  # binary, version 40, level L (ISO/IEC 18004)


def qr_svg(text: str) -> str | None:
    """One code where it fits; larger files go by file (there is no animated form here)."""
    if len(text) > QR_BYTES_MAX:
        return None
    code = segno.make(text, error="l", micro=False, mask=QR_MASK, boost_error=False)
    return str(code.svg_inline(scale=3))
