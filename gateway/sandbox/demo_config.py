"""The files of a self-contained test deployment: `cage.toml` and `signer.toml`.

Owns the demo's numbers (confirmations, bands, caps). Everything here is a test network with public
development keys; it must not be used as a template for live mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.assets import AssetRegistry
from config.chains import ChainRegistry, ChainSpec
from gateway.sandbox.cold_desk import ColdWallet

BRANDS = {"acme": 1, "bravo": 2}
"""Brand name -> account index below every xpub."""

CHAIN_VARIANTS = {"btc": "regtest", "ltc": "regtest", "eth": "dev"}

_BANDS = {
    "btc:BTC": ("1", "5", "10"),
    "ltc:LTC": ("10", "50", "100"),
    "eth:ETH": ("5", "20", "50"),
    "eth:USDT": ("1000", "20000", "50000"),
}

_SIGNER_CAP_UNITS = {"btc:BTC": 50, "ltc:LTC": 500, "eth:ETH": 500, "eth:USDT": 1_000_000}
"""Per-tx cap of the demo's signer in whole asset units; hour and day caps are 10 times that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often roles look, and how long an order of each class waits for company; seconds."""

    poll_seconds: float = 0.3
    urgent_seconds: int = 0
    normal_seconds: int = 5  # five orders at once ride together, also on a machine that stalls
    economy_seconds: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPorts:
    """Loopback ports of a deployment."""

    api: int
    pam: int


DEMO_PACE = Pace()


def cage_toml(
    *,
    nodes: Mapping[str, Sequence[str]],
    usdt_contract: str | None,
    ports: DemoPorts,
    pool_low: int,
    pool_high: int,
    pace: Pace = DEMO_PACE,
    api_port: int | None = None,
    hot_lanes: int = 1,
    cold: Sequence[ColdWallet] = (),
    collector: str | None = None,
) -> str:
    """`cage.toml` for these nodes (network -> URLs with credentials); most of them must agree.

    `api_port`: a further copy of the API listens there; clients sign for `ports.api` all the same.
    `hot_lanes`: how many accounts pay on account chains. `collector`: what deposit addresses of
    `eth` may delegate to.
    """
    lines = [
        "# Written by the sandbox: test networks only, public development keys.",
        "livemode = false",
        'state_dir = "state"',
        'crash_once_file = "crash-at"',
        "",
        "[api]",
        f"port = {api_port or ports.api}",
        f'authorities = ["127.0.0.1:{ports.api}"]',
        "",
        "[webhooks]",
        'allow_hosts = ["127.0.0.1"]',
        "retry_seconds = [1, 2, 5, 10, 30]",
        "",
        "[pool]",
        f"low = {pool_low}",
        f"high = {pool_high}",
        "",
        "[payouts]",
        f"poll_seconds = {pace.poll_seconds:g}",
        f"urgent = {{ window_seconds = {pace.urgent_seconds} }}",
        f"normal = {{ window_seconds = {pace.normal_seconds} }}",
        f"economy = {{ window_seconds = {pace.economy_seconds} }}",
    ]
    for name, index in BRANDS.items():
        lines += ["", f"[brands.{name}]", f"account_index = {index}"]
    for network, urls in nodes.items():
        lines += ["", f"[networks.{network}]", f'chain = "{CHAIN_VARIANTS[network]}"']
        listed = ", ".join(f'"{url}"' for url in urls)
        lines += [f"nodes = [{listed}]", f"quorum = {len(urls) // 2 + 1}"]
        lines += [f"poll_seconds = {pace.poll_seconds:g}"]
        if network == "eth":
            lines += [f"hot_lanes = {hot_lanes}"]
            lines += [] if collector is None else [f'collector = "{collector}"']
    for wallet in cold:
        lines += ["", f"[cold.{wallet.network}]", f'address = "{wallet.address}"']
        if wallet.descriptor is not None:
            lines += [f'descriptor = "{wallet.descriptor}"']
    for asset, (low, target, high) in _BANDS.items():
        if asset.partition(":")[0] in nodes:
            lines += ["", f'[wallets."{asset}"]']
            lines += [f'min = "{low}"', f'target = "{target}"', f'max = "{high}"']
    if usdt_contract is not None:
        lines += ["", '[assets."eth:USDT"]', f'contract = "{usdt_contract}"']
    return "\n".join(lines) + "\n"


def signer_toml(
    *, authority: str, chains: ChainRegistry, assets: AssetRegistry, anchor: Path
) -> str:
    """`signer.toml`: the signer's own limits for the same networks and assets."""
    lines = [
        "# Written by the sandbox: test networks only.",
        "[signer]",
        f'anchor = "{anchor}"',
        f'authorities = ["{authority}"]',
        "pin_seconds = 1",
        "",
        "[brands]",
        *(f"{name} = {index}" for name, index in BRANDS.items()),
    ]
    for chain in chains.values():
        lines += ["", f"[networks.{chain.network}]", *_network_lines(chain)]
        for asset in assets.values():
            if asset.network != chain.network:
                continue
            cap = _SIGNER_CAP_UNITS[asset.id] * 10**asset.decimals
            lines += ["", f"[networks.{chain.network}.assets.{asset.symbol}]"]
            lines += [f"decimals = {asset.decimals}", f'cap_tx_minor = "{cap}"']
            lines += [f'cap_hour_minor = "{cap * 10}"', f'cap_day_minor = "{cap * 10}"']
            lines += [f'cold_tx_max_minor = "{cap}"', f'cold_day_max_minor = "{cap * 10}"']
            if asset.contract is not None:
                lines.append(f'contract = "{asset.contract}"')
    return "\n".join(lines) + "\n"


def _network_lines(chain: ChainSpec) -> list[str]:
    lines = [f'family = "{chain.family}"', f"coin_type = {chain.coin_type}", "test = true"]
    if chain.family == "evm":
        return [
            *lines,
            f"chain_id = {chain.evm_chain_id}",
            "gas_limit_max = 200000",
            'fee_max_minor = "50000000000000000"',
            'fee_day_max_minor = "5000000000000000000"',
            'fee_rate_max = "300000000000"',
            'gas_top_up_tx_max_minor = "100000000000000000"',
            'gas_top_up_address_day_max_minor = "500000000000000000"',
            *([] if chain.collector is None else [f'collector = "{chain.collector}"']),
        ]
    return [
        *lines,
        f'caip2 = "{chain.caip2}"',
        f'hrp = "{chain.bech32_hrp}"',
        f"p2pkh_versions = {_versions(chain.p2pkh_versions)}",
        f"p2sh_versions = {_versions(chain.p2sh_versions)}",
        'fee_max_minor = "50000000"',
        'fee_day_max_minor = "500000000"',
        "fee_rate_max = 500",
    ]


def _versions(versions: tuple[str, ...]) -> str:
    return "[" + ", ".join(str(int(version, 16)) for version in versions) + "]"
