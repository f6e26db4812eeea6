"""The two Unix sockets: requests from payouts, and administration on the signer's host.

Both are private files and check the peer's OS user. One request is served at a time; only the
address pool's re-derivation runs beside it. It must not decide anything.
"""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from signer import audit
from signer.errors import ConfigurationError, RefusalCode, Refused, StoreError
from signer.logs import Log
from signer.pool import PoolVerifier
from signer.ports import Clock
from signer.protocol import (
    Operation,
    ProtocolError,
    Refusal,
    decode_attest_request,
    decode_log_request,
    decode_lookup_request,
    decode_recall_request,
    decode_sign_many_request,
    decode_sign_request,
    decode_verify_request,
    decode_void_request,
    encode_attest_answer,
    encode_head_answer,
    encode_log_answer,
    encode_lookup_answer,
    encode_recall_answer,
    encode_refusal,
    encode_sign_answer,
    encode_sign_many_answer,
    encode_verify_answer,
    encode_void_answer,
    frame,
    operation_of,
    read_frame,
)
from signer.protocol_reserves import decode_prove_request, encode_prove_answer
from signer.settings import Settings
from signer.store import Store
from signer.trust import Trust
from signer.vault import Vault

IDLE_SECONDS = 600.0  # a silent peer is dropped; it connects again
WRITE_SECONDS = 30.0  # one answer, at most 8 MiB, to a local peer
HANG_UP_SECONDS = 2.0  # for a peer that keeps talking after a last answer
CONNECTIONS_MAX = 64
SOCKET_PATH_BYTES_MAX = 107
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class SignerServer:
    """Serves one vault until cancelled."""

    def __init__(
        self,
        *,
        settings: Settings,
        vault: Vault,
        pool: PoolVerifier,
        trust: Trust,
        store: Store,
        clock: Clock,
        log: Log,
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._pool = pool
        self._trust = trust
        self._store = store
        self._clock = clock
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._one_pool = asyncio.Lock()
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)

    async def run(self, ready: Callable[[], None]) -> None:
        """Listen on both sockets; calls `ready` once both accept."""
        settings = self._settings
        public = await self._listen(settings.socket, settings.peer_uids, self._answer)
        admin = await self._listen(settings.admin_socket, settings.admin_uids, self._administer)
        async with public, admin:
            ready()
            try:
                await asyncio.gather(public.serve_forever(), admin.serve_forever())
            finally:
                async with self._one_at_a_time:  # a signature being written is finished
                    self._log.info("signer.stopped")

    async def _listen(self, path: Path, uids: tuple[int, ...], handler: Handler) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # The streams of Python 3.11 ask this task for its exception when it has ended, and
            # print what a cancelled one answers as an error of their own. Nobody awaits it.
            with suppress(asyncio.CancelledError):
                await self._serve(reader, writer, uids, handler)

        return await asyncio.start_unix_server(serve, sock=_bind(path, uids))

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        uids: tuple[int, ...],
        handler: Handler,
    ) -> None:
        """One connection's supervisor: nothing a peer sends may stop the server."""
        try:
            async with self._connections:
                if _peer_uid(writer) not in uids:
                    self._log.alarm("signer.unknown_peer", uid=_peer_uid(writer))
                    refusal = _refusal(RefusalCode.UNKNOWN_PEER, "not on the list")
                    await _hang_up(reader, writer, refusal)
                    return
                await self._converse(reader, writer, handler)
        except (TimeoutError, ConnectionError):
            self._log.info("signer.connection_closed")
        except Exception as error:
            self._log.alarm("signer.internal_error", kind=type(error).__name__)
        finally:
            writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await read_frame(reader)
                if message is None:
                    return
                answer = await handler(message)
            except ProtocolError as error:
                await _hang_up(reader, writer, _refusal(RefusalCode.BAD_REQUEST, str(error)))
                return
            except Refused as error:
                answer = _refusal(error.code, error.reason)
            except StoreError as error:
                self._log.alarm("signer.store_unwritable", reason=str(error))
                answer = _refusal(RefusalCode.STORE_UNWRITABLE, "the store is not usable now")
            await _send(writer, answer)

    async def _answer(self, raw: dict[str, Any]) -> dict[str, Any]:
        operation = operation_of(raw)
        if operation is Operation.VERIFY_ADDRESSES:
            return await self._verify_addresses(raw)
        async with self._one_at_a_time:
            if operation is Operation.HEAD:
                return encode_head_answer(self._vault.head())
            if operation is Operation.LOOKUP:
                attempt_id = decode_lookup_request(raw)
                return encode_lookup_answer(self._vault.lookup(attempt_id))
            if operation is Operation.LOG:
                after = decode_log_request(raw)
                return encode_log_answer(await asyncio.to_thread(self._vault.log, after))
            if operation is Operation.RECALL:
                attempt_id = decode_recall_request(raw)
                return encode_recall_answer(self._vault.recall(attempt_id))
            if operation is Operation.VOID:
                void = decode_void_request(raw)
                return encode_void_answer(await asyncio.to_thread(self._vault.void, void))
            if operation is Operation.ATTEST:
                paths = decode_attest_request(raw)
                return encode_attest_answer(await asyncio.to_thread(self._vault.attest, paths))
            if operation is Operation.PROVE:
                asked = decode_prove_request(raw)
                return encode_prove_answer(await asyncio.to_thread(self._vault.prove, asked))
            if operation is Operation.SIGN_MANY:
                requests = decode_sign_many_request(raw)
                return encode_sign_many_answer(
                    await asyncio.to_thread(self._vault.sign_many, requests)
                )
            request = decode_sign_request(raw)
            return encode_sign_answer(await asyncio.to_thread(self._vault.sign, request))

    async def _verify_addresses(self, raw: dict[str, Any]) -> dict[str, Any]:
        name, rows = decode_verify_request(raw)
        network = self._settings.networks.get(name)
        if network is None:
            raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the settings")
        async with self._one_pool:
            agreed = await asyncio.to_thread(self._pool.agree, network, rows)
        if not all(agreed):
            self._log.alarm("signer.pool_disagrees", network=name, rows=agreed.count(False))
        return encode_verify_answer(agreed)

    async def _administer(self, raw: dict[str, Any]) -> dict[str, Any]:
        async with self._one_at_a_time:
            match raw.get("op"):
                case "statement":
                    return self._apply_statement(raw)
                case "verify":
                    verdict = await asyncio.to_thread(audit.verify_chain, self._store.log_rows())
                    return {"ok": True, **audit.verdict_fields(verdict)}
                case _:
                    raise ProtocolError("op: unknown operation")

    def _apply_statement(self, raw: dict[str, Any]) -> dict[str, Any]:
        """A staff statement in base64 with its signatures by name; refusals are logged."""
        try:
            statement = base64.b64decode(raw["statement"], validate=True)
            signatures = {
                str(name): base64.b64decode(text, validate=True)
                for name, text in raw["signatures"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError("statement, signatures: base64 is required") from error
        try:
            now = self._clock.now_seconds()
            sequence = self._trust.apply(statement, signatures, now_seconds=now)
        except Refused as error:
            with self._store.unit_of_work():
                self._store.append_log(
                    "statement_refused", code=error.code.value, reason=error.reason
                )
            self._log.alarm("signer.statement_refused", code=error.code.value)
            raise
        self._log.info("signer.statement_applied", log_sequence=sequence)
        return {"ok": True, "sequence": sequence}


def _bind(path: Path, uids: tuple[int, ...]) -> socket.socket:
    """A private socket file. An old one is ours to remove: the store's lock is held."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ConfigurationError(f"{path}: longer than {SOCKET_PATH_BYTES_MAX} bytes, unix(7)")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600 if uids == (os.geteuid(),) else 0o660)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{path}: cannot listen: {error.strerror}") from error
    finally:
        os.umask(previous)
    return listener


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(frame(message))
    async with asyncio.timeout(WRITE_SECONDS):
        await writer.drain()


async def _hang_up(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: dict[str, Any]
) -> None:
    """A last answer. What the peer still sends is read and dropped: closing on unread bytes would
    reset the connection, and the peer would never see the answer (unix(7))."""
    await _send(writer, message)
    writer.write_eof()
    async with asyncio.timeout(HANG_UP_SECONDS):
        while await reader.read(65_536):
            pass


def _refusal(code: RefusalCode, reason: str) -> dict[str, Any]:
    return encode_refusal(Refusal(code=code.value, reason=reason))
