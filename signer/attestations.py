"""Whose deposit address this is: a path is bound to its first player for ever (FEATURES N20).

It re-derives the address from the key, checks that the path is a deposit path of the brand's own
account, binds, and signs the statement that a casino's front end verifies. It signs nothing else:
the key for it is used for nothing else, and the statement's first line says what it is. A caller
who has been taken over can waste paths, up to the cap; it can never make a second statement about
a path that has its player.
"""

import re
from collections.abc import Callable, Mapping

from signer import attempts_store, bindings_store
from signer.bindings_store import Binding
from signer.errors import RefusalCode, Refused, StoreError
from signer.keyring import Keyring
from signer.logs import Log
from signer.paths import OwnPath, Role, parse_path
from signer.ports import Clock
from signer.protocol import (
    Attestations,
    Attested,
    AttestItem,
    AttestRequest,
    Refusal,
    Statement,
)
from signer.settings import NetworkSettings, Settings
from signer.store import Store

CAP_SCOPE = "attest"  # first bindings of the last hour, all networks together
HOUR_SECONDS = 3_600
NAME_CHARACTERS_MAX = 128  # of what a refusal's log entry repeats
# The API's own grammar of player ids (gateway/api/wire_base.py); no line break can get in.
_PLAYER = re.compile(r"[A-Za-z0-9_~@+=:-][A-Za-z0-9._~@+=:-]{0,127}", re.ASCII)


class Attester:
    """Binds and signs on one store. Calls must not overlap with others of the vault."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        keyring: Keyring,
        clock: Clock,
        log: Log,
        check_release: Callable[[], None],
    ) -> None:
        """`check_release` raises Refused or StoreError while the vault may release nothing."""
        self._check_release = check_release
        self._store = store
        self._settings = settings
        self._keyring = keyring
        self._clock = clock
        self._log = log

    def attest(self, request: AttestRequest) -> Attestations | Refusal:
        """One answer per item, in order; what is new is durable before anything is answered."""
        try:
            return self._attest(request)
        except Refused as error:
            self._log.alarm("signer.attest_refused", code=error.code.value, reason=error.reason)
            return Refusal(code=error.code.value, reason=error.reason)
        except StoreError as failure:
            self._log.alarm("signer.store_unwritable", reason=str(failure))
            return Refusal(code=RefusalCode.STORE_UNWRITABLE.value, reason="nothing is kept now")

    def _attest(self, request: AttestRequest) -> Attestations:
        self._store.ensure_anchored()
        self._check_release()
        network = self._settings.networks.get(request.network)
        if network is None:
            raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the settings")
        if not network.caip2:
            raise Refused(
                RefusalCode.NOT_SUPPORTED, f"networks.{network.name}.caip2 is not in the settings"
            )
        answers: list[Attested | Refusal] = []
        new: dict[str, Binding] = {}
        room = self._room()
        for item in request.items:
            try:
                path = self._path(item, network)
                if self._decide(item, path, network, new=new, is_room=len(new) < room):
                    new[path.text] = _binding(item, path, network)
                answers.append(self._sign(item, path, network))
            except Refused as error:
                answers.append(Refusal(code=error.code.value, reason=error.reason))
        self._remember(network, new, request, answers)
        return Attestations(key_id=self._keyring.attestation_key_id, items=tuple(answers))

    def _room(self) -> int:
        """How many paths may still get their first player in this hour."""
        since = self._clock.now_seconds() - HOUR_SECONDS
        taken = attempts_store.spent_since(self._store, scope=CAP_SCOPE, since_seconds=since)
        return max(self._settings.attest_hour_max - taken, 0)

    def _path(self, item: AttestItem, network: NetworkSettings) -> OwnPath:
        path = parse_path(item.path, network)
        if path.role is not Role.DEPOSIT:
            raise Refused(RefusalCode.FOREIGN_PATH, f"{path.text} is no deposit path")
        if _PLAYER.fullmatch(item.player) is None:
            raise Refused(RefusalCode.BAD_REQUEST, "not a player id")
        return path

    def _decide(
        self,
        item: AttestItem,
        path: OwnPath,
        network: NetworkSettings,
        *,
        new: Mapping[str, Binding],
        is_room: bool,
    ) -> bool:
        """True: the path gets its player now. False: it has this player already. Or Refused."""
        bound = new.get(path.text) or bindings_store.binding_of(
            self._store, network=network.caip2, path=path.text
        )
        if bound is not None:
            if (bound.brand, bound.player) != (item.brand, item.player):
                raise Refused(RefusalCode.BOUND, f"{path.text} belongs to another player")
            return False
        account = self._settings.brands.get(item.brand)
        if account is None:
            raise Refused(RefusalCode.UNKNOWN_BRAND, "the brand is not in the settings")
        if account != path.account:
            raise Refused(RefusalCode.FOREIGN_PATH, f"{path.text} is not of the brand's account")
        if not is_room:
            raise Refused(RefusalCode.CAP_WINDOW, "signer.attest_hour_max is reached")
        return True

    def _sign(self, item: AttestItem, path: OwnPath, network: NetworkSettings) -> Attested:
        """Ed25519 is deterministic (RFC 8032): the same item, the same bytes, for ever."""
        statement = str(
            Statement(
                brand=item.brand,
                player=item.player,
                network=network.caip2,
                address=self._keyring.address(path, network),
                path_tag=self._keyring.path_tag(network.caip2, path),
            )
        )
        signature = self._keyring.sign_attestation(statement.encode("utf-8"))
        return Attested(statement=statement, signature=signature)

    def _remember(
        self,
        network: NetworkSettings,
        new: Mapping[str, Binding],
        request: AttestRequest,
        answers: list[Attested | Refusal],
    ) -> None:
        """One unit of work for all that is new; what was known before writes nothing."""
        refused = [
            {
                "brand": item.brand[:NAME_CHARACTERS_MAX],
                "player": item.player[:NAME_CHARACTERS_MAX],
                "path": item.path[:NAME_CHARACTERS_MAX],
                "code": answer.code,
            }
            for item, answer in zip(request.items, answers, strict=True)
            if isinstance(answer, Refusal)
        ]
        if not new and not refused:
            return
        with self._store.unit_of_work():
            if refused:
                self._store.append_log("attest_refused", network=network.caip2, items=refused)
            if new:
                items = [[item.path, item.brand, item.player] for item in new.values()]
                sequence = self._store.append_log("attested", network=network.caip2, items=items)
                for binding in new.values():
                    bindings_store.add_binding(self._store, binding, sequence=sequence)
                attempts_store.add_spent(
                    self._store,
                    scope=CAP_SCOPE,
                    at_seconds=self._clock.now_seconds(),
                    amount_minor=len(new),
                    attempt_id="",
                )
        if new:
            self._log.info("signer.attested", network=network.name, paths=len(new))
        if refused:
            codes = sorted({item["code"] for item in refused})
            self._log.alarm(
                "signer.attest_refused", network=network.name, paths=len(refused), codes=codes
            )


def _binding(item: AttestItem, path: OwnPath, network: NetworkSettings) -> Binding:
    return Binding(network=network.caip2, path=path.text, brand=item.brand, player=item.player)
