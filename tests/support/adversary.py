"""Who has taken over the gateway: every signed request it stores, and the signer's socket.

Seeded questions that differ from honest ones in one to three places, over every field. What may be
signed all the same is judged by `Judge`, which reads raw bytes with other libraries only.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from signer.protocol import Authorisation, Payment, Purpose, SignedTx, SignRequest
from tests.support.second_reader import outpoints_of, read_p2wpkh
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    GAS,
    HOT,
    LANE,
    approval,
    approve_body,
    authorise,
    evm_payload,
    order_body,
    previous_tx,
    psbt_of,
    transfer_data,
)
from tests.support.vault import FOREIGN_BTC, FOREIGN_EVM, TOKEN, VaultKit, client_key

COIN = 100_000_000
THIEF_SCRIPT = bytes.fromhex("0014") + b"\x11" * 20
THIEF_BTC = "bcrt1qzyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3fu8jr9"
THIEF_EVM = "0x" + "11" * 20
DUAL_BTC, DUAL_ETH = 40_000_000, 4 * 10**17
FEE_MAX_SAT, FEE_MAX_WEI = 100_000, 2 * 10**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One order that a client signed, and the approvals that people gave it."""

    request_id: str
    asset: str
    minor: int
    claim: Authorisation
    approvals: tuple[Authorisation, ...]

    @property
    def is_above(self) -> bool:
        """Whether it takes two people."""
        return self.minor > (DUAL_BTC if self.asset == "btc:BTC" else DUAL_ETH)


def intents() -> list[Intent]:
    """Orders of both networks; every other one above the dual limit has its two people."""
    made = []
    for number in range(16):
        for asset, address, unit in (
            ("btc:BTC", FOREIGN_BTC, 10**8),
            ("eth:ETH", FOREIGN_EVM, 10**18),
        ):
            amount = f"0.{1 + number % 6}"
            name = f"{asset[:3]}-{number}"
            body = order_body(request_id=name, asset=asset, address=address, amount=amount)
            consent = approve_body(request_id=name, asset=asset, address=address, amount=amount)
            people = ("alice", "bob") if number % 2 else ("alice",)
            made.append(
                Intent(
                    request_id=name,
                    asset=asset,
                    minor=unit * (1 + number % 6) // 10,
                    claim=authorise(body, nonce=f"n-{name}"),
                    approvals=tuple(approval(person, consent) for person in people),
                )
            )
    return made


@dataclass(kw_only=True)
class Attacker:
    """Makes questions. `kit` only lends it the public scripts and addresses."""

    kit: VaultKit
    random: Random
    orders: list[Intent]
    number: int = 0
    signed: list[SignRequest] = field(default_factory=list)

    def honest(self, intent: Intent) -> SignRequest:
        """What payouts would ask for this order."""
        self.number += 1
        common: dict[str, Any] = {
            "attempt_id": f"q-{self.number}",
            "purpose": Purpose.WITHDRAWAL,
            "worker_epoch": 1,
            "approvals": intent.approvals,
            "payments": (self._payment(intent, 0),),
        }
        if intent.asset == "btc:BTC":
            return SignRequest(network="btc", **self._utxo([intent], fee=1_000), **common)
        payload = evm_payload(nonce=self.number, value=intent.minor)
        return SignRequest(
            network="eth", unsigned=payload, input_paths=(LANE,), change_paths={}, **common
        )

    def attack(self) -> SignRequest:
        """An honest question, a replacement or a batch, altered in one to three places."""
        asked = self._base()
        for _ in range(self.random.randint(1, 3)):
            asked = self.random.choice(self._alterations(asked))(asked)
        return asked

    def _base(self) -> SignRequest:
        choice = self.random.random()
        if choice < 0.25 and self.signed:
            earlier = self.random.choice(self.signed)
            self.number += 1
            return replace(earlier, attempt_id=f"q-{self.number}", replaces=earlier.attempt_id)
        intent = self.random.choice(self.orders)
        asked = self.honest(intent)
        if choice < 0.4 and intent.asset == "btc:BTC":
            other = self.random.choice([item for item in self.orders if item.asset == "btc:BTC"])
            both = (self._payment(intent, 0), self._payment(other, 1))
            parts = self._utxo([intent, other], fee=1_000)
            asked = replace(
                asked, payments=both, approvals=intent.approvals + other.approvals, **parts
            )
        return asked

    def _payment(self, intent: Intent, index: int) -> Payment:
        return Payment(
            brand="acme",
            request_id=intent.request_id,
            output_index=index,
            authorisation=intent.claim,
        )

    def _utxo(self, paid: Sequence[Intent], *, fee: int, **changes: Any) -> dict[str, Any]:
        """A PSBT that pays these and keeps the rest; `outputs` and `salt` may be another's."""
        need = sum(item.minor for item in paid) + fee
        count = need // COIN + 1
        salts = changes.get("salts") or [self.number * 10 + n for n in range(count)]
        coins = [previous_tx(self.kit.script(HOT), COIN, salt) for salt in salts]
        outputs = changes.get("outputs") or [
            *((FOREIGN_SCRIPT, item.minor) for item in paid),
            (self.kit.script(CHANGE), len(coins) * COIN - need),
        ]
        return {
            "unsigned": psbt_of(coins, outputs).serialize(),
            "input_paths": (HOT,) * len(coins),
            "change_paths": changes.get("change_paths", {len(outputs) - 1: CHANGE}),
        }

    def _alterations(self, asked: SignRequest) -> list[Callable[[SignRequest], SignRequest]]:
        of_network = [self._other_utxo] if asked.network == "btc" else [self._other_payload]
        return [
            *of_network * 5, self._other_claim, self._other_claim, self._other_claim,
            self._other_payment, self._other_payment, self._other_paths, self._other_approvals,
            self._other_approvals, self._other_purpose, self._other_replaces, self._other_epoch,
            self._cut_bytes, self._other_network,
        ]  # fmt: skip

    def _other_utxo(self, asked: SignRequest) -> SignRequest:
        """Outputs, change, coins or fee of another tx."""
        pick = self.random.choice
        intent = pick([item for item in self.orders if item.asset == "btc:BTC"])
        rest = COIN - intent.minor
        change = self.kit.script(CHANGE)
        deposit = self.kit.script("m/84h/1h/1h/0/0")
        fee = pick([1, 999, 1_000, 1_001, 2_000, 50_000, 100_000, 100_001, 10**7])
        outputs = pick(
            [
                [(THIEF_SCRIPT, intent.minor), (change, rest - fee)],
                [(FOREIGN_SCRIPT, intent.minor + 1), (change, rest - fee - 1)],
                [(FOREIGN_SCRIPT, intent.minor - 1), (change, rest - fee + 1)],
                [(FOREIGN_SCRIPT, intent.minor), (THIEF_SCRIPT, rest - fee)],
                [(FOREIGN_SCRIPT, intent.minor), (deposit, rest - fee)],
                [(FOREIGN_SCRIPT, intent.minor), (change, 1_000), (THIEF_SCRIPT, rest - 9_000)],
                [(change, rest - fee), (FOREIGN_SCRIPT, intent.minor)],
                [(FOREIGN_SCRIPT, intent.minor), (change, rest - fee)],
                [(FOREIGN_SCRIPT, intent.minor)],
                [(change, COIN - fee)],
            ]
        )
        paths = pick(
            [
                {len(outputs) - 1: CHANGE},
                {len(outputs) - 1: "m/84h/1h/1h/0/0"},
                {len(outputs) - 1: "m/84h/1h/0h/1/7"},
                {index: CHANGE for index in range(1, len(outputs))},
                {},
            ]
        )
        salts = [pick([self.number * 10, 10, 20, 30])]
        parts = self._utxo([intent], fee=fee, outputs=outputs, change_paths=paths, salts=salts)
        return replace(asked, **parts)

    def _other_payload(self, asked: SignRequest) -> SignRequest:
        """Another nonce, receiver, value, fee, chain or shape."""
        pick = self.random.choice
        intent = pick([item for item in self.orders if item.asset == "eth:ETH"])
        own = bytes.fromhex(self.kit.address("eth", LANE)[2:])
        thief, token = bytes.fromhex(THIEF_EVM[2:]), bytes.fromhex(TOKEN[2:])
        changes: dict[str, Any] = {"nonce": self.number, "value": intent.minor}
        changes |= pick(
            [
                {"to": thief},
                {"value": intent.minor + 1},
                {"value": intent.minor - 1},
                {"value": 0},
                {"to": own, "value": 0},
                {"to": b""},
                {"to": token, "value": 0, "data": transfer_data(THIEF_EVM, 10**6)},
                {"to": token, "value": 0, "data": transfer_data(THIEF_EVM, 10**6, "095ea7b3")},
                {"data": b"\x01"},
                {"nonce": pick([0, 1, 2, 3, 5, 8, 2**63])},
                {"chain_id": pick([0, 1, 31338])},
                {"max_fee": pick([29 * 10**9, 31 * 10**9, 300 * 10**9, 301 * 10**9])},
                {"gas": pick([20_999, 200_000, 200_001])},
                {"priority": 31 * 10**9},
                {"access": [[thief, []]]},
            ]
        )
        return replace(asked, unsigned=evm_payload(**changes))

    def _other_claim(self, asked: SignRequest) -> SignRequest:
        """A client's request that was flipped somewhere, or answers for another order."""
        if not asked.payments:
            return asked
        index = self.random.randrange(len(asked.payments))
        payments = list(asked.payments)
        claim = payments[index].authorisation
        payments[index] = replace(payments[index], authorisation=self._bent(claim))
        return replace(asked, payments=tuple(payments))

    def _bent(self, claim: Authorisation) -> Authorisation:
        pick = self.random.choice
        body = bytearray(claim.body)
        body[self.random.randrange(len(body))] ^= 1 << self.random.randrange(8)
        where = self.random.randrange(6, len(claim.signature) - 3)
        wrong = pick("ABCDEFGH")
        thief = order_body(
            request_id="btc-1", address="bcrt1qzyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3fu8jr9"
        )
        return pick(
            [
                replace(claim, body=bytes(body)),
                replace(claim, body=claim.body.replace(b"0.", b"9.")),
                replace(
                    claim,
                    signature=claim.signature[:where] + wrong + claim.signature[where + 1 :],
                ),
                replace(claim, signature_input=claim.signature_input.replace("client-1", "alice")),
                replace(claim, signature_input=claim.signature_input.replace('"@path" ', "")),
                replace(claim, path="/v1/withdrawal_batches"),
                replace(claim, method="PUT"),
                replace(claim, authority="elsewhere.test"),
                replace(claim, query="?x=1"),
                replace(claim, headers={}),
                authorise(thief, keyid="stolen"),
                approval("alice", thief, key=client_key(), action="approve"),
                pick(self.orders).claim,
            ]
        )

    def _other_payment(self, asked: SignRequest) -> SignRequest:
        if not asked.payments:
            return asked
        pick = self.random.choice
        first = asked.payments[0]
        other = pick(self.orders)
        return replace(
            asked,
            payments=pick(
                [
                    (replace(first, brand="bravo"), *asked.payments[1:]),
                    (replace(first, request_id=other.request_id), *asked.payments[1:]),
                    (replace(first, output_index=pick([-1, 1, 2, 10**9])), *asked.payments[1:]),
                    (first, first),
                    (first, self._payment(other, 1)),
                    (),
                ]
            ),
        )

    def _other_paths(self, asked: SignRequest) -> SignRequest:
        pick = self.random.choice
        path = pick(
            [HOT, CHANGE, LANE, GAS, "m/84h/1h/1h/0/0", "m/44h/60h/1h/0/0", "m/44h/60h/0h/0/1", "m"]
        )
        return pick(
            [
                replace(asked, input_paths=(path,) * len(asked.input_paths)),
                replace(asked, input_paths=()),
                replace(asked, change_paths={**asked.change_paths, 0: path}),
                replace(asked, own_path=path),
            ]
        )

    def _other_approvals(self, asked: SignRequest) -> SignRequest:
        pick = self.random.choice
        alice = [claim for item in self.orders for claim in item.approvals][:: pick([1, 2, 3])]
        bent = tuple(self._bent(claim) for claim in asked.approvals)
        twice = asked.approvals[:1] * 2
        renamed = tuple(
            replace(claim, signature_input=claim.signature_input.replace("alice", "bob"))
            for claim in twice
        )
        forged = approval("bob", approve_body(), key=client_key())
        return replace(
            asked,
            approvals=pick(
                [(), bent, twice, renamed, (*asked.approvals[:1], forged), tuple(alice)]
            ),
        )

    def _other_purpose(self, asked: SignRequest) -> SignRequest:
        purpose = self.random.choice(list(Purpose))
        payments = asked.payments if self.random.random() < 0.5 else ()
        return replace(asked, purpose=purpose, payments=payments)

    def _other_replaces(self, asked: SignRequest) -> SignRequest:
        names = [item.attempt_id for item in self.signed] or ["q-0"]
        return replace(asked, replaces=self.random.choice([None, "q-0", *names]))

    def _other_epoch(self, asked: SignRequest) -> SignRequest:
        return replace(asked, worker_epoch=self.random.choice([-1, 0, 2**63, 2**70]))

    def _cut_bytes(self, asked: SignRequest) -> SignRequest:
        data = bytearray(asked.unsigned)
        if not data:
            return asked
        where = self.random.randrange(len(data))
        if self.random.random() < 0.3:
            return replace(asked, unsigned=bytes(data[:where]))
        data[where] ^= 1 << self.random.randrange(8)
        return replace(asked, unsigned=bytes(data))

    def _other_network(self, asked: SignRequest) -> SignRequest:
        return replace(asked, network=self.random.choice(["btc", "ltc", "eth", "doge"]))


@dataclass(kw_only=True)
class Judge:
    """Holds every signature against the clients' orders; raises AssertionError."""

    kit: VaultKit
    orders: list[Intent]
    utxo: dict[str, list[frozenset[tuple[str, int]]]] = field(default_factory=dict)
    evm: dict[str, set[int]] = field(default_factory=dict)
    nonces: dict[int, str] = field(default_factory=dict)
    genuine: set[Authorisation] = field(default_factory=set)

    def judge(self, asked: SignRequest, answer: SignedTx) -> None:
        """The bytes pay what clients ordered, at most once, within fees and limits."""
        if asked.network == "btc":
            self._utxo(asked, answer.raw, answer.txid)
        else:
            assert asked.network == "eth", asked.network
            self._evm(asked, answer.raw)

    def _orders_of(self, asked: SignRequest) -> list[Intent]:
        by_claim = {(item.request_id, item.claim.signature): item for item in self.orders}
        found = [
            by_claim[(item.request_id, item.authorisation.signature)] for item in asked.payments
        ]
        for order in found:
            assert order.asset.startswith(asked.network)
            is_first = order.request_id not in self.utxo and order.request_id not in self.evm
            if order.is_above and is_first:
                bodies = {claim.body for claim in order.approvals}
                people = {c.signature for c in asked.approvals if c.body in bodies}
                assert len(order.approvals) == 2, f"{order.request_id} had one person only"
                assert {claim.signature for claim in order.approvals} <= people
        return found

    def _utxo(self, asked: SignRequest, raw: bytes, txid: str) -> None:
        spent = outpoints_of(raw)
        amounts = [COIN if vout == 1 else 1_000 for _, vout in spent]
        read = read_p2wpkh(raw, amounts)
        assert read.is_verified
        assert read.txid == txid
        own = {self.kit.script(f"m/84h/1h/0h/{chain}/{n}") for chain in (0, 1) for n in range(9)}
        foreign = Counter(item for item in read.outputs if item[0] not in own)
        orders = self._orders_of(asked)
        assert foreign == Counter((FOREIGN_SCRIPT, order.minor) for order in orders)
        fee = sum(amounts) - sum(amount for _, amount in read.outputs)
        assert 0 <= fee <= FEE_MAX_SAT
        inputs = frozenset(spent)
        for order in orders:
            for earlier in self.utxo.setdefault(order.request_id, []):
                assert earlier & inputs, f"{order.request_id} could be paid twice"
            self.utxo[order.request_id].append(inputs)

    def _evm(self, asked: SignRequest, raw: bytes) -> None:
        tx = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        assert Account.recover_transaction(raw) == self.kit.address("eth", LANE)
        [order] = self._orders_of(asked)
        assert (tx["chainId"], tx["value"]) == (31337, order.minor)
        assert (HexBytes(tx["to"]).hex(), bytes(tx["data"])) == (FOREIGN_EVM[2:].lower(), b"")
        assert int(tx["gas"]) * int(tx["maxFeePerGas"]) <= FEE_MAX_WEI
        nonce = int(tx["nonce"])
        self.evm.setdefault(order.request_id, set()).add(nonce)
        assert self.evm[order.request_id] == {nonce}, f"{order.request_id} could be paid twice"
        assert self.nonces.setdefault(nonce, order.request_id) == order.request_id
