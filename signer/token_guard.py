"""The token's say in every signature: it proves itself again each time, or nothing leaves.

The keys are in memory once the key file is open, so a token that was pulled out would stop nothing
by itself. Here it opens the outer layer of the key file anew before each answer. Calls into a
PKCS#11 module cannot be cut short, so they run on a thread of their own and are waited for only so
long; a token that comes back is taken up again by itself.
"""

import hashlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from signer.errors import RefusalCode, Refused, SignerError, TokenError
from signer.keyring import KeyHolder, OuterLayer
from signer.logs import Log

PROOF_SECONDS = 5.0  # a network token answers in milliseconds
WATCH_SECONDS = 10.0  # how soon a loss is told when nobody asks for a signature


class Session(KeyHolder, Protocol):
    """A token that was logged in to (`signer.token.Token`)."""

    def close(self) -> None:
        """Also where it is gone."""


class Proof:
    """The outer layer, opened again. For one thread at a time."""

    def __init__(self, *, token: Session, reopen: Callable[[], Session], layer: OuterLayer) -> None:
        """Opens it a first time; raises TokenError."""
        self._token: Session | None = token
        self._reopen = reopen
        self._layer = layer
        self._digest = self._open(token)

    def __call__(self) -> None:
        """Raises TokenError unless the token opens what it opened at the start.

        A session that the token dropped (a new start, a cut line) is not yet a token that is gone.
        """
        if self._token is not None:
            try:
                return self._check(self._token)
            except TokenError:
                self._token.close()
                self._token = None
        token = self._reopen()
        try:
            self._check(token)
        except TokenError:
            token.close()
            raise
        self._token = token

    def _check(self, token: Session) -> None:
        if self._open(token) != self._digest:
            raise TokenError("the token opens the key file to something else")

    def _open(self, token: Session) -> bytes:
        """The key is looked up each time: a module may keep a handle of what is gone."""
        opened = token.key(self._layer.key_id).decrypt(self._layer.iv, self._layer.sealed)
        return hashlib.sha256(opened).digest()


class TokenGuard:
    """Asks for proofs from one thread; `check` is for one caller at a time."""

    def __init__(
        self,
        prove: Callable[[], None],
        log: Log,
        *,
        proof_seconds: float = PROOF_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._prove = prove
        self._log = log
        self._proof_seconds = proof_seconds
        self._watch_seconds = watch_seconds
        self._questions: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()
        self._open_question: Future[None] | None = None
        self._is_lost = False
        threading.Thread(target=self._work, name="token", daemon=True).start()

    def check(self) -> None:
        """Raises Refused (`token_unavailable`) unless the token proves itself now."""
        pending = self._open_question
        if pending is not None and not pending.done():
            raise Refused(RefusalCode.TOKEN_UNAVAILABLE, "the token does not answer")
        question: Future[None] = Future()
        self._open_question = question
        self._questions.put(question)
        try:
            question.result(self._proof_seconds)
        except TimeoutError:
            self._log.alarm("signer.token_lost", reason="the token does not answer")
            raise Refused(RefusalCode.TOKEN_UNAVAILABLE, "the token does not answer") from None
        except TokenError as error:
            raise Refused(RefusalCode.TOKEN_UNAVAILABLE, str(error)) from error

    def _work(self) -> None:
        while True:
            try:
                question = self._questions.get(timeout=self._watch_seconds)
            except queue.Empty:
                question = Future()  # nobody asked: the watch does
            try:
                self._prove()
            except Exception as error:  # whatever it is, nothing is signed; the thread goes on
                self._lost(question, error)
            else:
                self._proven(question)

    def _lost(self, question: Future[None], error: Exception) -> None:
        reason = str(error) if isinstance(error, SignerError) else type(error).__name__
        self._is_lost = True
        self._log.alarm("signer.token_lost", reason=reason)
        question.set_exception(TokenError(reason))

    def _proven(self, question: Future[None]) -> None:
        if self._is_lost:
            self._is_lost = False
            self._log.info("signer.token_back")
        question.set_result(None)
