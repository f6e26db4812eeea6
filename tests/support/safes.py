"""A real Safe on a dev node, its owners with a tool of their own, and a house that it fills."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from config.settings import ColdSettings
from gateway.payouts import rebalances, rebalances_store, refills_store, safe_plans_store
from gateway.payouts.rebalances import Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.safe_plans_store import SafePlanRow
from gateway.sandbox.nodes import Anvil
from tests.support import evm
from tests.support.batch import call
from tests.support.payouts import Payouts
from tests.support.people import PEOPLE
from tests.support.refills import RefillHouse, watched
from watchers import registry
from watchers.cold_spends import ColdProgress

FOLDER: Final = Path(__file__).resolve().parents[1] / "vectors" / "safe"
HASHES: Final = {
    "Safe": "e3c129073285546f6ac30868a902a12c0cc432a26bcb024ed0115bcd8ab9af75",
    "SafeProxy": "cdac0e1d7a8897472ab08d29d19e028896c4feaaff65bba661c2e5e49a39bf61",
}
"""SHA-256 of the creation codes (tests/vectors/safe/README.md)."""

OWNERS: Final[tuple[LocalAccount, ...]] = tuple(
    sorted(
        (Account.from_key(hashlib.sha256(f"public Safe owner {n}".encode()).digest())
         for n in range(3)),
        key=lambda owner: owner.address.lower(),
    )
)  # fmt: skip
THRESHOLD: Final = 2
DEPLOYER: Final = 5  # of the node's accounts: what the first one makes has addresses of its own use
NOBODY: Final = "0x" + "00" * 20
CHAIN_ID: Final = 31_337
SAFE_TX: Final = (
    ("to", "address"), ("value", "uint256"), ("data", "bytes"), ("operation", "uint8"),
    ("safeTxGas", "uint256"), ("baseGas", "uint256"), ("gasPrice", "uint256"),
    ("gasToken", "address"), ("refundReceiver", "address"), ("nonce", "uint256"),
)  # fmt: skip
EXECUTE: Final = f"execTransaction({','.join(kind for _, kind in SAFE_TX[:-1])},bytes)"
DAY_SECONDS: Final = 86_400
SETUP: Final = "setup(address[],uint256,address,bytes,address,address,uint256,address)"


def creation_code(name: str) -> str:
    """0x hex of a pinned build."""
    code = "".join((FOLDER / f"{name}.hex").read_text("ascii").split())
    assert hashlib.sha256(bytes.fromhex(code)).hexdigest() == HASHES[name]
    return "0x" + code


async def deploy(
    node: Anvil, *, owners: Sequence[str] | None = None, threshold: int = THRESHOLD
) -> str:
    """A Safe behind its proxy, set up and mined; its address."""
    keys = [owner.address for owner in OWNERS] if owners is None else list(owners)
    singleton = await _create(node, creation_code("Safe"))
    proxy = creation_code("SafeProxy") + singleton[2:].lower().rjust(64, "0")
    safe = await _create(node, proxy)
    data = evm.call_data(SETUP, keys, threshold, NOBODY, b"", NOBODY, NOBODY, 0, NOBODY)
    receipt = await call(node, safe, data)
    assert receipt["status"] == "0x1"
    return safe


async def _create(node: Anvil, code: str) -> str:
    deployer = (await node.accounts())[DEPLOYER]
    txid = await node.transact(to=None, data=code, sender=deployer)
    await node.mine()
    receipt = await node.rpc("eth_getTransactionReceipt", txid)
    address: str = receipt["contractAddress"]
    return address


async def execute(node: Anvil, safe: str, *, to: str, value: int, data: bytes = b"") -> None:
    """The owners do something of their own with it, by a tool of their own."""
    words = {
        "to": to, "value": value, "data": data, "operation": 0, "safeTxGas": 0, "baseGas": 0,
        "gasPrice": 0, "gasToken": NOBODY, "refundReceiver": NOBODY,
    }  # fmt: skip
    nonce = int(await node.rpc("eth_call", {"to": safe, "data": evm.call_data("nonce()")}), 16)
    typed = {
        "types": {"SafeTx": [{"name": name, "type": kind} for name, kind in SAFE_TX]},
        "primaryType": "SafeTx",
        "domain": {"chainId": CHAIN_ID, "verifyingContract": safe},
        "message": {**words, "nonce": nonce},
    }
    signatures = b"".join(
        bytes(owner.sign_typed_data(full_message=typed).signature) for owner in OWNERS[:THRESHOLD]
    )
    receipt = await call(node, safe, evm.call_data(EXECUTE, *words.values(), signatures))
    assert receipt["status"] == "0x1"


async def hash_on_chain(node: Anvil, safe: str, unsigned: Mapping[str, Any]) -> str:
    """What the Safe itself calls a transaction, member by member as the API gives it."""
    message = unsigned["typed_data"]["message"]
    kinds = ",".join(kind for _, kind in SAFE_TX)
    values = [
        bytes.fromhex(message[name][2:])
        if kind == "bytes"
        else message[name]
        if kind == "address"
        else int(message[name])
        for name, kind in SAFE_TX
    ]
    data = evm.call_data(f"getTransactionHash({kinds})", *values)
    return str(await node.rpc("eth_call", {"to": safe, "data": data}))


def signed(typed: bytes, owner: LocalAccount) -> bytes:
    """As an owner's wallet signs it (eth-account): no code of ours."""
    return bytes(owner.sign_typed_data(full_message=json.loads(typed)).signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeHouse(RefillHouse):
    """A house whose cold wallet is a Safe that the signer's people have pinned since a day."""

    safe: str

    @classmethod
    async def of(cls, house: Payouts, safe: str, *, is_pinned: bool = True) -> "SafeHouse":
        """Capital; hot and the Safe have 2 coins each, the Safe 100 tokens beside."""
        await watched(house, ColdSettings.model_validate({"safe": safe}))
        if is_pinned:
            house.signer.kit.statement("pin", {"network": "eth", "address": safe})
            house.signer.kit.clock.now += DAY_SECONDS
        await house.fund("eth:ETH", "2")
        await house.fund("eth:ETH", "2", at=safe)
        await house.fund("eth:USDT", "100", at=safe)
        return cls(house=house, safe=safe)

    async def plan(self, row: RebalanceRow) -> SafePlanRow:
        """What the owners sign."""
        async with self.house.database.unit_of_work() as uow:
            found = await safe_plans_store.of_rebalance(uow, row.id)
        assert found is not None
        return found

    async def bring(self, row: RebalanceRow, signature: bytes) -> ColdProgress:
        """What the API does with one owner's signature."""
        plan = await self.plan(row)
        found = registry.safe_signature(plan.typed, signature, owners=plan.owners)
        async with self.house.database.unit_of_work() as uow:
            locked = await rebalances_store.get(uow, row.id, lock=True)
            assert locked is not None
            await refills_store.add(
                uow, rebalance_id=row.id, attempt_id=plan.id, signatures=found,
                person=PEOPLE[0], at=self.house.clock.now(),
            )  # fmt: skip
            every = await refills_store.of_attempt(uow, plan.id)
            progress = registry.safe_progress(every, owners=plan.owners, threshold=plan.threshold)
            if progress.raw is not None:
                await rebalances.move(
                    uow, locked, Trigger.SIGN, {}, ids=self.house.ids, at=self.house.clock.now()
                )
        return progress

    async def take_back(self, row: RebalanceRow) -> None:
        """What the API does when a person cancels it."""
        async with self.house.database.unit_of_work() as uow:
            locked = await rebalances_store.get(uow, row.id, lock=True)
            assert locked is not None
            await rebalances.move(
                uow, locked, Trigger.CANCEL, {}, ids=self.house.ids, at=self.house.clock.now()
            )

    async def sign(self, row: RebalanceRow, *owners: LocalAccount) -> ColdProgress:
        """These owners sign, the last first; by default as many as it takes."""
        typed = (await self.plan(row)).typed
        progress: ColdProgress | None = None
        for owner in reversed(owners or OWNERS[:THRESHOLD]):
            progress = await self.bring(row, signed(typed, owner))
        assert progress is not None
        return progress
