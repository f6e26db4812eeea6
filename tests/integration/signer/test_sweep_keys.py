"""S22 at the socket: what an attacker of the gateway gets signed by deposit, gas and hot keys."""

import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from gateway.sandbox.nodes import Anvil
from signer.keyring import Keyring, keyring_from_entropy
from signer.paths import parse_path
from signer.protocol import Purpose, SignedTx, SignRequest
from signer.settings import load_settings
from tests.support import evm
from tests.support.sign_requests import evm_payload, evm_request, transfer_data
from tests.support.signer_host import Host, new_host, trusted
from tests.support.vault import COLLECTOR, FOREIGN_EVM, TEST_ENTROPY, TOKEN

DEPOSIT, OTHER = "m/44h/60h/1h/0/3", "m/44h/60h/2h/0/4"
GAS, LANE, LANE_1 = "m/44h/60h/0h/1/0", "m/44h/60h/0h/0/0", "m/44h/60h/0h/0/1"
SENDERS = (DEPOSIT, GAS, LANE)
HOT = (LANE, LANE_1)
TARGETS = (*HOT, GAS, OTHER, None)
CHAIN = 31_337


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Own accounts by path, derived as the signer's settings say."""

    keyring: Keyring
    folder: Path

    def address(self, path: str | None) -> str:
        """Of an own path; of None the attacker's."""
        if path is None:
            return FOREIGN_EVM
        network = load_settings(self.folder, own_uid=0).networks["eth"]
        return self.keyring.address(parse_path(path, network), network)

    def key(self, path: str | None) -> bytes:
        """Its 20 bytes."""
        return bytes.fromhex(self.address(path)[2:])


@pytest.fixture
def host() -> Iterator[Host]:
    """A real signer process with the public test keys, which trusts one client."""
    with TemporaryDirectory(prefix="sg") as parent:
        made = new_host(Path(parent))
        trusted(made)
        assert made.process is not None
        assert made.process.stdout is not None
        drain = Thread(target=made.process.stdout.read)  # its log would fill the pipe
        drain.start()
        yield made
        made.process.send_signal(signal.SIGKILL)
        drain.join()
        made.stop()


def shapes(keys: Keys, target: str | None, random: Random) -> dict[str, bytes]:
    """What a tx to somebody may look like; all fees within the ceilings."""
    token, to = bytes.fromhex(TOKEN[2:]), keys.key(target)
    legs = [keys.key(path) + (10**6).to_bytes(12, "big") for path in (DEPOSIT, OTHER)]
    pull = bytes.fromhex(evm.call_data("collect(address,bytes32[])", TOKEN, legs)[2:])

    def payload(**changes: Any) -> bytes:
        nonce = random.randrange(2**40)  # the number of no other tx
        return evm_payload(**{"nonce": nonce, "value": 10**12, "gas": 200_000, **changes})

    def call(selector: str) -> bytes:
        data = transfer_data(keys.address(target), 5, selector)
        return payload(to=token, value=0, data=data)

    def delegating(contract: bytes) -> bytes:
        fields = rlp.decode(payload(to=contract, value=0, data=pull)[1:])
        given = [CHAIN.to_bytes(2, "big"), contract, b""]
        return b"\x04" + bytes(rlp.encode([*fields, [given]]))

    collector = bytes.fromhex(COLLECTOR[2:])
    return {
        "coin": payload(to=to),
        "token": call("a9059cbb"),
        "approve": call("095ea7b3"),
        "permit": call("d505accf"),
        "creation": payload(to=b"", data=b"\x60\x80"),
        "delegation to anybody": delegating(to),
        "delegation": delegating(collector),
        "collect": payload(to=collector, value=0, data=pull),
        "call": payload(to=to, data=b"\x01\x02\x03\x04"),
    }


def questions(keys: Keys, random: Random) -> Iterator[SignRequest]:
    """Every purpose, sender, shape and target, each with the paths that would flatter it most."""
    number = 0
    for purpose, sender, target in product(Purpose, SENDERS, TARGETS):
        for name, unsigned in shapes(keys, target, random).items():
            number += 1
            paths = {0: DEPOSIT, 1: OTHER} if name in ("delegation", "collect") else {}
            if name == "delegation":
                paths[2] = DEPOSIT
            yield evm_request(
                attempt_id=f"q-{number}",
                payload=unsigned,
                purpose=purpose,
                input_paths=(sender,),
                change_paths=paths,
                own_path=None if paths else target,
                payments=(),
            )


def authorities(fields: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(who delegates, to whom, on which chain), by the signatures alone."""
    found = []
    for item in fields.get("authorizationList", ()):
        body = [item["chainId"], HexBytes(item["address"]), item["nonce"]]
        digest = keccak(b"\x05" + rlp.encode([_plain(part) for part in body]))
        who = Account._recover_hash(digest, vrs=(item["yParity"], item["r"], item["s"]))
        found.append((who, "0x" + HexBytes(item["address"]).hex(), item["chainId"]))
    return found


def _plain(part: Any) -> bytes:
    if isinstance(part, int):
        return part.to_bytes((part.bit_length() + 7) // 8, "big")
    return bytes(part)


def what_moved(fields: dict[str, Any]) -> tuple[str, str]:
    """(what, to whom) of a signed tx: `coin`, `token`, or `collect` by the collector."""
    to, data = "0x" + HexBytes(fields["to"]).hex(), HexBytes(fields["data"])
    if not data:
        return "coin", to
    if to == COLLECTOR and data[:4].hex() == "35927669":
        return "collect", to
    assert (to, data[:4].hex()) == (TOKEN.lower(), "a9059cbb")
    return "token", "0x" + data[16:36].hex()


def own(keys: Keys, paths: Sequence[str]) -> set[str]:
    """Addresses in lower case."""
    return {keys.address(path).lower() for path in paths}


def test_s22_deposit_keys_sign_towards_hot_and_no_key_signs_without_an_intent(host: Host) -> None:
    """Whatever is signed is read by eth-account, and judged by who signed it."""
    keys = Keys(keyring=keyring_from_entropy(TEST_ENTROPY), folder=host.folder)
    signed: dict[tuple[str, str], set[str]] = {}
    asked = 0
    for question in questions(keys, Random(22)):
        asked += 1
        answer = host.sign(question)
        if not isinstance(answer, SignedTx):
            continue
        fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
        assert Account.recover_transaction(answer.raw) == keys.address(question.input_paths[0])
        for who, contract, chain in authorities(fields):
            assert (who, contract, chain) == (keys.address(DEPOSIT), COLLECTOR, CHAIN)
        what, to = what_moved(fields)
        signed.setdefault((question.input_paths[0], what), set()).add(to)
    assert asked == len(Purpose) * len(SENDERS) * len(TARGETS) * 9
    assert signed == {
        (DEPOSIT, "coin"): own(keys, HOT),
        (DEPOSIT, "token"): own(keys, HOT),
        (GAS, "coin"): own(keys, (*HOT, OTHER)),  # top-ups, within their caps
        (LANE, "coin"): own(keys, (LANE_1, GAS, OTHER)),
        (GAS, "collect"): {COLLECTOR},
    }


@pytest.mark.node
async def test_anybody_may_deploy_the_collector_that_the_signer_names(
    host: Host, anvil: Anvil
) -> None:
    """By the tx that `keys collector` prints, from a wallet of the outside; gas as it says."""
    told = json.loads(host.command("keys-collector"))["eth"]
    assert told["collector"] == COLLECTOR
    stranger = (await anvil.accounts())[3]
    call = {"from": stranger, "to": told["to"], "data": told["data"], "gas": hex(told["gas"])}
    txid = await anvil.rpc("eth_sendTransaction", call)
    await anvil.mine()
    assert (await anvil.rpc("eth_getTransactionReceipt", txid))["status"] == "0x1"
    assert len(await anvil.rpc("eth_getCode", COLLECTOR, "latest")) > 2
