"""The signer's part of a proof of reserves: one statement, and keys of its own addresses."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from eth_account import Account
from eth_account.messages import encode_defunct

from gateway.cli import reserves_keys
from signer import audit, protocol, protocol_reserves, register_store
from signer.protocol import ProtocolError, Refusal
from signer.protocol_reserves import MAX_PROVE_PATHS, Proven, ProvenAddress, ProveRequest
from tests.support.vault import VaultKit

STATEMENT = 'cage-reserves/1\n{"proof":"prf_test_1"}'
PATHS = {
    "btc": ("m/84h/1h/0h/0/0", "m/84h/1h/0h/1/3", "m/84h/1h/1h/0/7"),
    "ltc": ("m/84h/1h/0h/0/0",),
    "eth": ("m/44h/60h/0h/0/0", "m/44h/60h/0h/1/0", "m/44h/60h/2h/0/5"),
}


def prove(kit: VaultKit, network: str, *paths: str, statement: str = STATEMENT) -> Proven:
    answer = kit.vault.prove(ProveRequest(network=network, statement=statement, paths=paths))
    assert isinstance(answer, Proven), answer
    return answer


def test_the_statement_is_signed_by_the_attestation_key(kit: VaultKit) -> None:
    answer = prove(kit, "btc")
    Ed25519PublicKey.from_public_bytes(answer.public_key).verify(
        answer.signature, STATEMENT.encode()
    )
    assert answer.public_key == kit.keyring.attestation_public_key
    assert (answer.key_id, answer.items) == (kit.keyring.attestation_key_id, ())


@pytest.mark.parametrize("network", PATHS)
def test_each_address_signs_with_its_own_key(kit: VaultKit, network: str) -> None:
    """Checked by the verifier's code, which is not the signer's."""
    answer = prove(kit, network, *PATHS[network])
    message = reserves_keys.message_of(STATEMENT)
    for path, item in zip(PATHS[network], answer.items, strict=True):
        assert isinstance(item, ProvenAddress)
        assert item.address == kit.address(network, path)
        assert reserves_keys.is_signed(
            address=item.address, signature=item.signature, message=message
        )
        assert not reserves_keys.is_signed(
            address=item.address, signature=item.signature, message=message[:-1] + "x"
        )
    assert prove(kit, network, *PATHS[network]).items == answer.items


def test_a_wallets_library_reads_the_signature_of_an_evm_address(kit: VaultKit) -> None:
    """eth-account's own reading of EIP-191 `personal_sign`."""
    [item] = prove(kit, "eth", PATHS["eth"][0]).items
    assert isinstance(item, ProvenAddress)
    message = encode_defunct(text=protocol_reserves.address_message(STATEMENT))
    assert Account.recover_message(message, signature=item.signature) == item.address


def test_a_signature_of_another_address_is_not_taken(kit: VaultKit) -> None:
    first, second, _ = prove(kit, "btc", *PATHS["btc"]).items
    assert isinstance(first, ProvenAddress)
    assert isinstance(second, ProvenAddress)
    message = reserves_keys.message_of(STATEMENT)
    for wrong in (second.signature, "", "AAAA", base64.b64encode(bytes(65)).decode(), "0x" + "00"):
        assert not reserves_keys.is_signed(address=first.address, signature=wrong, message=message)


@pytest.mark.parametrize("path", ["m/84h/0h/0h/0/0", "m/44h/60h/0h/0/0", "m/1/2", "", "x"])
def test_a_foreign_path_is_refused_alone(kit: VaultKit, path: str) -> None:
    good, bad = prove(kit, "btc", PATHS["btc"][0], path).items
    assert isinstance(good, ProvenAddress)
    assert isinstance(bad, Refusal)
    assert bad.code == "bad_path"


@pytest.mark.parametrize(
    "statement",
    [
        "cage-address/1\nbrand=acme\nplayer=p\nnetwork=n\naddress=a\npath_tag=t",
        "cage-reserves/1",
        "cage-reserves/1\n",
        "cage-reserves/1\n{}\n",
        "cage-reserves/1\n{}\ncage-address/1",
        "cage-reserves/1\nü",
        "cage-reserves/2\n{}",
        "cage-reserves/1\n" + "x" * protocol_reserves.STATEMENT_CHARACTERS_MAX,
    ],
)
def test_nothing_else_is_signed_under_this_name(statement: str) -> None:
    """One line under one heading: it can be no statement about an address (ADR 0016)."""
    message = protocol_reserves.encode_prove_request(
        ProveRequest(network="btc", statement=statement)
    )
    with pytest.raises(ProtocolError):
        protocol_reserves.decode_prove_request(message)


def test_the_message_round_trips_and_is_bounded(kit: VaultKit) -> None:
    request = ProveRequest(network="btc", statement=STATEMENT, paths=PATHS["btc"])
    message = protocol.strict_loads(
        protocol.frame(protocol_reserves.encode_prove_request(request))[4:]
    )
    assert protocol.operation_of(message) is protocol.Operation.PROVE
    assert protocol_reserves.decode_prove_request(message) == request
    answer = prove(kit, "btc", *PATHS["btc"], "x")
    encoded = protocol_reserves.encode_prove_answer(answer)
    assert protocol_reserves.decode_prove_answer(encoded) == answer
    long = ProveRequest(network="btc", statement=STATEMENT, paths=("m",) * (MAX_PROVE_PATHS + 1))
    with pytest.raises(ProtocolError):
        protocol_reserves.decode_prove_request(protocol_reserves.encode_prove_request(long))


def test_unknown_network_is_refused_whole(kit: VaultKit) -> None:
    answer = kit.vault.prove(ProveRequest(network="doge", statement=STATEMENT, paths=("m",)))
    assert isinstance(answer, Refusal)
    assert answer.code == "unknown_network"


def test_a_halted_signer_proves_nothing(kit: VaultKit) -> None:
    """S16: nothing leaves while a person has stopped it."""
    with kit.store.unit_of_work():
        register_store.set_halted(kit.store, is_halted=True)
    answer = kit.vault.prove(ProveRequest(network="btc", statement=STATEMENT))
    assert isinstance(answer, Refusal)
    assert answer.code == "halted"


def test_the_log_keeps_which_statement_it_was(kit: VaultKit) -> None:
    prove(kit, "btc", *PATHS["btc"])
    *_, (_, body, _) = kit.store.log_rows()
    digest = hashlib.sha256(STATEMENT.encode()).hexdigest()
    assert '"reserves_signed"' in body
    assert digest in body
    assert audit.verify_chain(kit.store.log_rows()).first_bad is None


def test_what_an_address_signs_is_shorter_than_any_transaction(kit: VaultKit) -> None:
    """BIP-143's preimage has 156 bytes and more; EIP-191's first byte begins no transaction."""
    message = protocol_reserves.address_message(STATEMENT)
    assert len(message) == 87
    assert len(b"\x19Litecoin Signed Message:\n") + 1 + len(message) < 156
