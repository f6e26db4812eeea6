"""Unsigned GETs of the sandbox on loopback: health of a role, statistics of the sample PAM."""

from contextlib import suppress
from typing import Any

import aiohttp

GET_TIMEOUT_SECONDS = 5.0


async def get_json(url: str) -> Any:
    """The JSON answer of an unsigned GET on loopback. Raises aiohttp.ClientError."""
    timeout = aiohttp.ClientTimeout(total=GET_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
        response.raise_for_status()
        return await response.json()


async def is_up(url: str) -> bool:
    """Whether a GET is answered with 2xx."""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        await get_json(url)
        return True
    return False
