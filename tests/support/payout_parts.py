"""Parts of the payout house: a vault without a socket, crash hooks, settings, simulated worlds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from config.settings import (
    AssetSettings,
    BatchSettings,
    BrandSettings,
    ColdSettings,
    NetworkSettings,
    PayoutSettings,
    Settings,
    TierSettings,
)
from gateway.payouts.crash import Crash
from gateway.payouts.errors import SignerUnavailable
from signer import protocol
from signer.pool import PoolVerifier as SecondDerivation
from signer.protocol import (
    Attestations,
    AttestRequest,
    Head,
    LogPage,
    LogRequest,
    PoolRow,
    Refusal,
    SignedTx,
    SignRequest,
    Voided,
    VoidRequest,
)
from tests.support.simchain import (
    TOKEN_CONTRACT,
    UTXO_PARAMS,
    sim_account,
    sim_utxo,
)
from tests.support.vault import (
    VaultKit,
)
from tests.support.worlds import SimAccountWorld, SimUtxoWorld

DEPTH = 2  # the full tier of everything here


class SimulatedCrash(Exception):
    """The process died at a named point."""


def crash_at(point: str) -> Crash:
    """A hook that dies at one point, as often as it is reached."""

    def hook(reached: str) -> None:
        if reached == point:
            raise SimulatedCrash(point)

    return hook


class VaultSigner:
    """The vault behind the wire's encoding, without a socket. `is_down` refuses connections."""

    def __init__(self, kit: VaultKit) -> None:
        self.kit = kit
        self.is_down = False
        self.asked: list[SignRequest] = []
        self._second = SecondDerivation(kit.keyring)

    def _check(self) -> None:
        if self.is_down:
            raise SignerUnavailable("down")

    async def head(self) -> Head:
        self._check()
        head = protocol.decode_head_answer(protocol.encode_head_answer(self.kit.vault.head()))
        assert isinstance(head, Head)
        return head

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        self._check()
        self.asked.append(request)
        decoded = protocol.decode_sign_request(protocol.encode_sign_request(request))
        return protocol.decode_sign_answer(
            protocol.encode_sign_answer(self.kit.vault.sign(decoded))
        )

    async def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]:
        """One by one, so that a test which answers for `sign` answers for these."""
        answers: list[SignedTx | Refusal] = []
        for request in requests:
            answers.append(await self.sign(request))
            if isinstance(answers[-1], Refusal):
                break
        return answers

    async def lookup(self, attempt_id: str) -> SignedTx | Refusal | None:
        self._check()
        return self.kit.vault.lookup(attempt_id)

    async def log(self, request: LogRequest) -> LogPage:
        self._check()
        decoded = protocol.decode_log_request(protocol.encode_log_request(request))
        page = protocol.decode_log_answer(protocol.encode_log_answer(self.kit.vault.log(decoded)))
        assert isinstance(page, LogPage)
        return page

    async def recall(self, attempt_id: str) -> SignRequest | None:
        self._check()
        found = self.kit.vault.recall(attempt_id)
        return protocol.decode_recall_answer(protocol.encode_recall_answer(found))

    async def void(self, request: VoidRequest) -> Voided | Refusal:
        self._check()
        decoded = protocol.decode_void_request(protocol.encode_void_request(request))
        return protocol.decode_void_answer(
            protocol.encode_void_answer(self.kit.vault.void(decoded))
        )

    async def attest(self, request: AttestRequest) -> Attestations | Refusal:
        self._check()
        decoded = protocol.decode_attest_request(protocol.encode_attest_request(request))
        return protocol.decode_attest_answer(
            protocol.encode_attest_answer(self.kit.vault.attest(decoded))
        )

    async def verify_addresses(self, *, network: str, rows: Sequence[PoolRow]) -> tuple[bool, ...]:
        self._check()
        return self._second.agree(self.kit.settings.networks[network], rows)


def simulated(network: str) -> SimUtxoWorld | SimAccountWorld:
    """A fresh world of a network; litecoin's nodes do not replace."""
    if network == "eth":
        return SimAccountWorld(*sim_account())
    if network == "ltc":
        params = replace(
            UTXO_PARAMS,
            network="ltc",
            asset="ltc:LTC",
            hrp="rltc",
            p2sh_versions=frozenset({0x3A}),
            uri_scheme="litecoin",
        )
        return SimUtxoWorld(*sim_utxo(params, can_replace=False))
    return SimUtxoWorld(*sim_utxo())


def settings_of(network: str, **overrides: Any) -> Settings:
    """Test settings with one network (with `overrides`), no batch windows and one confirmation
    tier; of `overrides`, `safe` is the Safe that is its cold wallet."""
    safe = overrides.pop("safe", None)
    tiers = (TierSettings(min=1, full=DEPTH),)
    if network == "eth":
        networks = {"eth": NetworkSettings(chain="dev", **overrides)}
        assets = {
            "eth:ETH": AssetSettings(tiers=tiers),
            "eth:USDT": AssetSettings(contract=TOKEN_CONTRACT, tiers=tiers),
        }
    else:
        networks = {network: NetworkSettings(chain="regtest", **overrides)}
        assets = {f"{network}:{network.upper()}": AssetSettings(tiers=tiers)}
    at_once = BatchSettings(window_seconds=0)
    return Settings(
        networks=networks,
        assets=assets,
        brands={"acme": BrandSettings(account_index=1), "bravo": BrandSettings(account_index=2)},
        payouts=PayoutSettings(urgent=at_once, normal=at_once, economy=at_once),
        cold={} if safe is None else {network: ColdSettings.model_validate({"safe": safe})},
    )
