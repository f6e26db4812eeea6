"""Changes of the register: staff statements, their signatures and their one effect.

A statement is canonical JSON that names the signer's fingerprint and a moment; it is signed by
people's own Ed25519 keys, has its effect once, and is logged. What widens (`trust`, `unfreeze`,
`staff_add`, `staff_unfreeze`, `resume`, `pin`) takes two people, what narrows (`revoke`, `freeze`,
`staff_revoke`, `staff_freeze`, `halt`, `unpin`) one. The first staff keys are taken without
signatures while nobody was ever on the staff. It must not sign transactions.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer import cold_pins
from signer import register_store as register
from signer.errors import RefusalCode, Refused
from signer.protocol import ProtocolError, strict_loads
from signer.register_store import ClientKey, KeyCap, KeyState
from signer.settings import Settings
from signer.store import Store

CONTEXT = b"cage-signer-statement-v1\n"  # a staff key signs other things too
STATEMENT_SECONDS = 86_400  # a statement not used within a day is stale
AHEAD_SECONDS = 60
SIGNERS_NEEDED = {
    "trust": 2, "unfreeze": 2, "staff_add": 2, "staff_unfreeze": 2, "resume": 2, "pin": 2,
    "revoke": 1, "freeze": 1, "staff_revoke": 1, "staff_freeze": 1, "halt": 1, "unpin": 1,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,127}", re.ASCII)
_DIGITS = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_TARGETS = {
    "revoke": KeyState.REVOKED,
    "freeze": KeyState.FROZEN,
    "unfreeze": KeyState.TRUSTED,
}


def encode_statement(fields: Mapping[str, object]) -> bytes:
    """The canonical bytes that people sign (after `CONTEXT`)."""
    return json.dumps(dict(fields), sort_keys=True, separators=(",", ":")).encode("ascii")


class Trust:
    """Applies staff statements to the register of one signer."""

    def __init__(self, *, store: Store, settings: Settings, fingerprint: str) -> None:
        self._store = store
        self._settings = settings
        self._fingerprint = fingerprint

    def apply(self, statement: bytes, signatures: Mapping[str, bytes], *, now_seconds: int) -> int:
        """Check and apply one statement; returns its log sequence. Raises Refused, StoreError."""
        try:
            raw = strict_loads(statement)
        except ProtocolError as error:
            raise _bad(str(error)) from error
        if encode_statement(raw) != statement:
            raise _bad("the statement is not in canonical form")
        action, issued = raw.pop("action", None), raw.pop("issued_at", None)
        if not isinstance(action, str) or action not in SIGNERS_NEEDED:
            raise _bad("unknown action")
        if raw.pop("signer", None) != self._fingerprint:
            raise _bad("the statement is for another signer")
        if (
            type(issued) is not int
            or not -AHEAD_SECONDS <= now_seconds - issued < STATEMENT_SECONDS
        ):
            raise Refused(RefusalCode.NEEDS_STAFF, "the statement is stale or from the future")
        names = self._check_signatures(action, statement, signatures)
        digest = hashlib.sha256(statement).hexdigest()
        if register.is_statement_used(self._store, digest):
            raise Refused(RefusalCode.NEEDS_STAFF, "the statement has had its effect already")
        with self._store.unit_of_work():
            self._effect(action, raw, now_seconds)
            register.use_statement(self._store, digest)
            return self._store.append_log(action, statement=statement.decode(), staff=names)

    def _check_signatures(
        self, action: str, statement: bytes, signatures: Mapping[str, bytes]
    ) -> list[str]:
        if action == "staff_add" and not register.staff(self._store):
            return []
        known = register.staff_keys(self._store)
        for name, signature in signatures.items():
            if name not in known:
                raise Refused(RefusalCode.NEEDS_STAFF, "a signature of nobody on the staff")
            try:
                key = Ed25519PublicKey.from_public_bytes(known[name])
                key.verify(signature, CONTEXT + statement)
            except InvalidSignature as error:
                raise Refused(RefusalCode.NEEDS_STAFF, f"{name}: wrong signature") from error
        needed = SIGNERS_NEEDED[action]
        if len(signatures) < needed:  # names and keys are unique in the register
            raise Refused(RefusalCode.NEEDS_STAFF, f"{action} takes {needed} people")
        return sorted(signatures)

    def _effect(self, action: str, raw: dict[str, Any], now_seconds: int) -> None:
        if action == "staff_add":
            self._add_staff(raw)
        elif action == "trust":
            self._trust(raw, now_seconds)
        elif action in ("halt", "resume"):
            self._set_halted(action, raw)
        elif action in ("pin", "unpin"):
            cold_pins.apply(action, raw, self._store, self._settings, now_seconds=now_seconds)
        elif action.startswith("staff_"):
            self._set_staff_state(action.removeprefix("staff_"), raw)
        else:
            self._set_state(action, raw)

    def _add_staff(self, raw: dict[str, Any]) -> None:
        people = raw.get("staff")
        if set(raw) != {"staff"} or not isinstance(people, dict) or not people:
            raise _bad("staff_add has exactly `staff`: name to key")
        known = register.staff(self._store)  # also those who left: a name stands for one person
        if not known and len(people) < 2:
            raise _bad("the first staff keys are two or more people's")
        taken = {item.public_key for item in known.values()}
        for name, text in people.items():
            key = _public_key(text)
            if not _NAME.fullmatch(name) or name in known or key in taken:
                raise Refused(RefusalCode.TRUST_CONFLICT, "a name or key is wrong or there already")
            if register.is_client_key(self._store, key):
                raise Refused(RefusalCode.TRUST_CONFLICT, "a key that orders may not approve")
            taken.add(key)
            register.add_staff_key(self._store, name=name, public_key=key)

    def _trust(self, raw: dict[str, Any], now_seconds: int) -> None:
        if set(raw) != {"keyid", "public_key", "brand", "caps", "expires_at"}:
            raise _bad("trust has exactly keyid, public_key, brand, caps, expires_at")
        keyid, brand, expires = raw["keyid"], raw["brand"], raw["expires_at"]
        if not _is_name(keyid) or not _is_name(brand):
            raise _bad("keyid, brand: names are required")
        if type(expires) is not int or not now_seconds < expires < 2**62:
            raise _bad("expires_at: seconds in the future")
        if register.client_key(self._store, keyid) is not None:
            raise Refused(RefusalCode.TRUST_CONFLICT, "the keyid is in the register already")
        public_key = _public_key(raw["public_key"])
        if public_key in {item.public_key for item in register.staff(self._store).values()}:
            raise Refused(RefusalCode.TRUST_CONFLICT, "a key that approves may not order")
        register.add_client_key(
            self._store,
            ClientKey(
                keyid=keyid,
                public_key=public_key,
                brand=brand,
                caps=self._caps(raw["caps"]),
                expires_at=expires,
                state=KeyState.TRUSTED,
            ),
        )

    def _caps(self, raw: object) -> dict[str, KeyCap]:
        if not isinstance(raw, dict) or not raw:
            raise _bad("caps: asset to tx and day")
        known = {asset for network in self._settings.networks.values() for asset in network.assets}
        caps = {}
        for asset, cap in raw.items():
            is_cap = isinstance(cap, dict) and set(cap) == {"tx", "day"}
            if asset not in known or not is_cap:
                raise _bad("caps: a known asset with exactly tx and day")
            if not all(isinstance(v, str) and _DIGITS.fullmatch(v) for v in cap.values()):
                raise _bad("caps: minor units as strings")
            caps[asset] = KeyCap(tx_minor=int(cap["tx"]), day_minor=int(cap["day"]))
        return caps

    def _set_state(self, action: str, raw: dict[str, Any]) -> None:
        if set(raw) != {"keyid"} or not isinstance(raw["keyid"], str):
            raise _bad(f"{action} has exactly keyid")
        key = register.client_key(self._store, raw["keyid"])
        if key is None:
            raise Refused(RefusalCode.UNKNOWN_KEY, "the key is not in the register")
        _check_step(action, key.state)
        register.set_client_key_state(self._store, keyid=key.keyid, state=_TARGETS[action])

    def _set_staff_state(self, action: str, raw: dict[str, Any]) -> None:
        if set(raw) != {"person"} or not isinstance(raw["person"], str):
            raise _bad(f"staff_{action} has exactly person")
        found = register.staff(self._store).get(raw["person"])
        if found is None:
            raise Refused(RefusalCode.UNKNOWN_KEY, "nobody of this name is on the staff")
        _check_step(action, found.state)
        register.set_staff_state(self._store, name=found.name, state=_TARGETS[action])

    def _set_halted(self, action: str, raw: dict[str, Any]) -> None:
        if raw:
            raise _bad(f"{action} has no further fields")
        is_halt = action == "halt"
        if register.is_halted(self._store) is is_halt:
            raise Refused(RefusalCode.TRUST_CONFLICT, f"nothing to {action}")
        register.set_halted(self._store, is_halted=is_halt)


def _check_step(action: str, state: KeyState) -> None:
    """Revoked is for ever, and only what is frozen is unfrozen; raises Refused."""
    if state is KeyState.REVOKED or (action == "unfreeze" and state is not KeyState.FROZEN):
        raise Refused(RefusalCode.TRUST_CONFLICT, f"a {state.value} key: no {action}")


def _public_key(text: object) -> bytes:
    try:
        key = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        Ed25519PublicKey.from_public_bytes(key)
    except ValueError as error:
        raise _bad("a public key is 32 bytes in base64") from error
    return key


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.BAD_REQUEST, reason)
