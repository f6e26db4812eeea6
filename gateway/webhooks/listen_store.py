"""Hears NOTIFY: one connection of its own per process, a wake-up for each channel.

A notification is a hint and may be lost (HOUSE 2), so a lost connection is no error: every consumer
polls meanwhile, and the listener connects again. It must not read rows.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg

from config.clock import Clock, Waker
from config.logs import get_logger

CONNECT_TIMEOUT_SECONDS = 10
CHECK_SECONDS = 5.0  # how often the connection is asked whether it still lives
RECONNECT_SECONDS = 1.0

log = get_logger("gateway.webhooks.listen")


class Listener:
    """Wakes `channels[name]` at each notification on the channel `name`."""

    def __init__(self, url: str, *, channels: Mapping[str, Waker], clock: Clock) -> None:
        self._url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._channels = channels
        self._clock = clock
        self.is_listening = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("webhooks.listener_lost", error=type(error).__name__)
            self.is_listening.clear()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": "cage listener"},
        )
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._on_notify)
            self.is_listening.set()
            for waker in self._channels.values():
                waker.wake()  # what was told while nobody listened
            while True:
                await self._clock.sleep(CHECK_SECONDS)
                await connection.execute("SELECT 1", timeout=CONNECT_TIMEOUT_SECONDS)
        finally:
            connection.terminate()

    def _on_notify(self, _connection: Any, _pid: int, channel: str, _payload: object) -> None:
        self._channels[channel].wake()
