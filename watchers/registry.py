"""Family name -> factory: builds the `Chain` of a network from its registry facts.

The only module that knows all families (HOUSE 8). It opens no connection; the first call does.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from config.assets import AssetSpec
from config.chains import ChainSpec, Family, Finality, Traces
from config.clock import Clock, SystemClock
from config.errors import ConfigError
from config.settings import ColdSettings
from watchers.agreed_chain import AgreedChain
from watchers.chain import AddressCodec, Chain, DerivedAddress, Unsigned
from watchers.chains.bitcoin import build as bitcoin_build
from watchers.chains.bitcoin import cold_build, cold_signed, rawtx, siblings
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.chain import BitcoinChain
from watchers.chains.bitcoin.descriptor import ColdDescriptor
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.params import BitcoinParams, PowAlgorithm
from watchers.chains.bitcoin.unspent import BitcoinUnspent
from watchers.chains.evm import build as evm_build
from watchers.chains.evm import cold_signed as evm_cold
from watchers.chains.evm import collect as evm_collect
from watchers.chains.evm import safe as evm_safe
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.chain import EvmChain
from watchers.chains.evm.params import EvmParams
from watchers.chains.jsonrpc import endpoint
from watchers.chains.node import HttpTransport
from watchers.chains.pace import CALLS_PER_SECOND, PacedPost
from watchers.chains.verifier import Verifier
from watchers.cold_spends import ColdPlan, ColdProgress, ColdSignature
from watchers.errors import InvalidAddress, UnsupportedOperation
from watchers.judge import LYING_PROBATION_SECONDS, Rules, parse_version
from watchers.nodes import DescribedChain, Node, NodePool
from watchers.safes import SafePlan
from watchers.unspent import UnspentReader

REQUEST_TIMEOUT_SECONDS = 20.0  # a full block at verbosity 2 takes some seconds on a busy node
SCAN_TIMEOUT_SECONDS = 1_800.0  # a node reads its whole set of unspent outputs: some minutes
URI_SCHEMES = {"btc": "bitcoin", "ltc": "litecoin"}  # BIP 21 and its Litecoin counterpart

LYING_SECONDS_MIN = 60.0  # on test networks a liar is barred for this long at least,
LYING_POLLS = 100  # or for so many polls
LOOK_SECONDS_MIN = 1.0  # nodes are judged at the pace of polling, dev chains no faster than this

Factory = Callable[
    [ChainSpec, Sequence[str], Sequence[AssetSpec], PacedPost, Clock, Verifier], DescribedChain
]


def build_chain(
    spec: ChainSpec,
    node_urls: Sequence[str],
    assets: Iterable[AssetSpec],
    *,
    clock: Clock | None = None,
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    calls_per_second: int = CALLS_PER_SECOND,
) -> Chain:
    """The chain of one network over its nodes in order of preference.

    `assets` may hold those of other networks too. Raises ValueError for a URL or spec that cannot
    work, without showing credentials.
    """
    listed = [asset for asset in assets if asset.network == spec.network]
    clock = clock or SystemClock()
    transport = _paced(timeout_seconds, calls_per_second, clock)
    verifier = Verifier(clock=clock)
    return FACTORIES[spec.family](spec, node_urls, listed, transport, clock, verifier)


def build_agreed_chain(
    spec: ChainSpec,
    node_urls: Sequence[str],
    assets: Iterable[AssetSpec],
    *,
    quorum: int,
    clock: Clock | None = None,
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    calls_per_second: int = CALLS_PER_SECOND,
) -> AgreedChain:
    """The chain of one network as `quorum` of its nodes agree on it; each has its own connections.

    Raises ValueError as `build_chain` does, and for a quorum that can never be reached.
    """
    clock = clock or SystemClock()
    listed = [asset for asset in assets if asset.network == spec.network]
    factory = FACTORIES[spec.family]
    verifier = Verifier(clock=clock)
    nodes = []
    for label, url in _labelled(node_urls):
        transport = _paced(timeout_seconds, calls_per_second, clock)
        chain = factory(spec, [url], listed, transport, clock, verifier)
        nodes.append(Node(label=label, chain=chain, describer=chain.describer))
    least = spec.min_node_version
    pool = NodePool(
        nodes,
        quorum=quorum,
        rules=Rules(
            lag_blocks=spec.lag_blocks,
            stall_seconds=float(spec.stall_seconds),
            lying_seconds=LYING_PROBATION_SECONDS
            if spec.is_live
            else max(LYING_SECONDS_MIN, LYING_POLLS * spec.poll_seconds),
            min_version=None if least is None else parse_version(least),
        ),
        anchor_depth=spec.reorg_limit_blocks,
        clock=clock,
        look_seconds=max(spec.poll_seconds, LOOK_SECONDS_MIN),
        timeout_seconds=timeout_seconds,
    )
    return AgreedChain(pool, reorg_limit_blocks=spec.reorg_limit_blocks)


def build_unspent(
    spec: ChainSpec, node_urls: Sequence[str], *, clock: Clock, calls_per_second: int
) -> UnspentReader | None:
    """The nodes' sets of unspent outputs, over connections of their own that have patience; None
    for account chains. Raises ValueError as `build_chain`."""
    if spec.family is not Family.BITCOIN:
        return None
    transport = _paced(SCAN_TIMEOUT_SECONDS, calls_per_second, clock)
    node = BitcoinNode(
        node_urls,
        transport,
        clock=clock,
        genesis_hash=bitcoin_params(spec).genesis_hash,
        network=spec.network,
    )
    return BitcoinUnspent(node, close=transport.close)


def _paced(timeout_seconds: float, calls_per_second: int, clock: Clock) -> PacedPost:
    """Connections that keep within the budget of calls of each node URL (N08)."""
    transport = HttpTransport(timeout_seconds=timeout_seconds)
    return PacedPost(
        transport, calls_per_second=calls_per_second, clock=clock, close=transport.close
    )


def _labelled(urls: Sequence[str]) -> list[tuple[str, str]]:
    """Host and port name a node (N20); two behind one host are told apart by a number."""
    found: list[tuple[str, str]] = []
    for url in urls:
        label = endpoint(url).label
        same = sum(1 for known, _ in found if known.partition("#")[0] == label)
        found.append((f"{label}#{same + 1}" if same else label, url))
    return found


def build_codec(spec: ChainSpec, assets: Iterable[AssetSpec]) -> AddressCodec:
    """The address codec of a network alone: pure, for processes that have no node (HOUSE 3)."""
    match spec.family:
        case Family.BITCOIN:
            return BitcoinAddressCodec(bitcoin_params(spec))
        case Family.EVM:
            listed = [asset for asset in assets if asset.network == spec.network]
            return EvmAddressCodec(evm_params(spec, listed))
        case _:
            assert_never(spec.family)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdAddress:
    """An address of a cold wallet: `branch` 0 receives, 1 is change."""

    branch: int
    index: int
    derived: DerivedAddress


def cold_addresses(
    spec: ChainSpec, assets: Iterable[AssetSpec], cold: ColdSettings
) -> list[ColdAddress]:
    """What of a cold wallet is watched. Pure, CPU work. Raises ConfigError for an address or
    descriptor that is none, or for an address that the descriptor does not derive."""
    where = f"cold.{spec.network}"
    is_utxo = spec.family is Family.BITCOIN
    if (cold.descriptor is not None) != is_utxo:
        raise ConfigError(f"{where}.descriptor: required on UTXO networks, and only there")
    try:
        place = build_codec(spec, assets).parse(cold.address)
        if cold.descriptor is None:
            derived = DerivedAddress(
                address=place.address, key=place.key, path="cold", scheme="cold"
            )
            return [ColdAddress(branch=0, index=0, derived=derived)]
        wallet = ColdDescriptor(cold.descriptor, bitcoin_params(spec))
        found = [
            ColdAddress(branch=branch, index=index, derived=derived)
            for branch, index, derived in wallet.derive_all(cold.addresses)
        ]
    except InvalidAddress as error:
        raise ConfigError(f"{where}: {error}", hint=error.remedy) from error
    if not any(item.derived.key == place.key and item.branch == 0 for item in found):
        raise ConfigError(
            f"{where}.address: not among the first {cold.addresses} addresses of the descriptor",
            hint="compare both with the cold wallet's own program",
        )
    return found


def issued_keys(family: Family, keys: Iterable[str]) -> Mapping[str, str]:
    """Those of `keys` that are another script of a public key and tell (D26), with the match key of
    the address that the house would issue for it. Pure."""
    match family:
        case Family.BITCOIN:
            return siblings.issued_keys(keys)
        case Family.EVM:
            return {}
        case _:
            assert_never(family)


def payment_units(
    spec: ChainSpec, assets: Iterable[AssetSpec], *, asset: str, key: str, is_alone: bool
) -> int:
    """What one payment is expected to take of a block: virtual bytes, or gas. Pure, no node.

    `is_alone`: in a tx of its own; account chains know no other. The paid `key` says how large an
    output is.
    """
    match spec.family:
        case Family.BITCOIN:
            return bitcoin_build.payment_vb(key, is_alone=is_alone)
        case Family.EVM:
            listed = [item for item in assets if item.network == spec.network]
            return evm_build.payment_gas(asset, params=evm_params(spec, listed))
        case _:
            assert_never(spec.family)


def collector_key(spec: ChainSpec, *, hot_key: str, sender_key: str) -> str:
    """Where the collector of hot lane 0 and gas account 0 stands on an account chain. Pure."""
    if spec.family is not Family.EVM:
        raise ValueError(f"{spec.network}: a collector is of account chains")
    return evm_collect.created_key(hot_key=hot_key, sender_key=sender_key)


def offered_rate(
    spec: ChainSpec, *, unsigned: bytes, raw: bytes | None, fee_minor: int
) -> int | None:
    """What an own tx offers for inclusion: sat per kvB, rounded down, once it is signed; or the
    most wei per gas. Pure."""
    match spec.family:
        case Family.BITCOIN:
            return None if raw is None else fee_minor * 1_000 // rawtx.virtual_size(raw)
        case Family.EVM:
            return evm_build.max_fee_per_gas(unsigned)
        case _:
            assert_never(spec.family)


def cold_size(spec: ChainSpec, descriptor: str) -> Callable[[int, Sequence[str]], int]:
    """What gives the signed virtual size of so many inputs of a cold wallet and outputs to these
    match keys, at most. Raises InvalidAddress. Pure."""
    wallet = ColdDescriptor(descriptor, _utxo_params(spec))

    def size_vb(inputs: int, outputs: Sequence[str]) -> int:
        return cold_build.size_vb(wallet, inputs=inputs, outputs=list(outputs))

    return size_vb


def cold_unsigned(spec: ChainSpec, plan: ColdPlan) -> Unsigned:
    """The file that the signers of a cold wallet get: PSBT v0 (BIP 174). Pure.

    Raises InvalidAddress, NothingToReserve.
    """
    params = _utxo_params(spec)
    codec = BitcoinAddressCodec(params)
    return cold_build.build(plan, params=params, codec=codec, asset=spec.native_asset)


def cold_signatures(
    spec: ChainSpec, *, unsigned: bytes, upload: bytes, sender_key: str | None = None
) -> tuple[ColdSignature, ...]:
    """The signatures of an uploaded file, each verified over the stored plan. `sender_key`: the
    cold account, on account chains. Pure.

    Raises SignedFileRefused.
    """
    if sender_key is not None:
        return evm_cold.read_signatures(unsigned, upload, sender_key=sender_key)
    _utxo_params(spec)
    return cold_signed.read_signatures(unsigned, upload)


def cold_transaction(spec: ChainSpec, unsigned: bytes) -> Mapping[str, str | int] | None:
    """The plan as programs that sign for an account take it; None on UTXO chains. Pure."""
    return evm_cold.transaction_of(unsigned) if spec.family is Family.EVM else None


def safe_unsigned(spec: ChainSpec, assets: Iterable[AssetSpec], plan: SafePlan) -> bytes:
    """What the owners of a Safe sign: typed data (EIP-712) as JSON. Raises InvalidAddress. Pure."""
    params = evm_params(spec, [asset for asset in assets if asset.network == spec.network])
    to = EvmAddressCodec(params).parse(plan.payment.address)
    return evm_safe.typed_data(plan, to_key=to.key, params=params)


def safe_hash(typed: bytes) -> str:
    """The name that a Safe gives to a transaction, and what its owners sign. Pure."""
    return "0x" + evm_safe.digest(typed).hex()


def safe_signature(
    typed: bytes, upload: bytes, *, owners: Sequence[str]
) -> tuple[ColdSignature, ...]:
    """An owner's signature, verified over the stored typed data. Raises SignedFileRefused. Pure."""
    return evm_safe.read_signature(typed, upload, owners=owners)


def safe_progress(
    signatures: Sequence[ColdSignature], *, owners: Sequence[str], threshold: int
) -> ColdProgress:
    """How far a Safe's transaction is signed; `raw`: its signatures, as the Safe takes them."""
    return evm_safe.progress(signatures, owners=owners, threshold=threshold)


def cold_progress(
    spec: ChainSpec,
    *,
    unsigned: bytes,
    signatures: Sequence[ColdSignature],
    sender_key: str | None = None,
) -> ColdProgress:
    """How far a plan is signed, and the network's bytes once it is. Pure."""
    if sender_key is not None:
        return evm_cold.assemble(unsigned, signatures, sender_key=sender_key)
    _utxo_params(spec)
    return cold_signed.assemble(unsigned, signatures)


def _utxo_params(spec: ChainSpec) -> BitcoinParams:
    if spec.family is not Family.BITCOIN:
        raise UnsupportedOperation(f"{spec.network} has no coins")
    return bitcoin_params(spec)


def bitcoin_params(spec: ChainSpec) -> BitcoinParams:
    """What the bitcoin family needs of a spec. ValueError when something is missing."""
    if spec.genesis_hash is None or spec.bech32_hrp is None:
        raise ValueError(f"{spec.network}: genesis hash and human-readable part are required")
    if spec.pow_algorithm is None or spec.pow_limit is None:
        raise ValueError(f"{spec.network}: proof of work is not described")
    return BitcoinParams(
        network=spec.network,
        asset=spec.native_asset,
        genesis_hash=spec.genesis_hash,
        hrp=spec.bech32_hrp,
        p2pkh_versions=frozenset(int(item, 16) for item in spec.p2pkh_versions),
        p2sh_versions=frozenset(int(item, 16) for item in spec.p2sh_versions),
        xpub_versions=frozenset(bytes.fromhex(item) for item in spec.xpub_versions),
        coin_type=spec.coin_type,
        uri_scheme=URI_SCHEMES.get(spec.network, spec.network),
        pow_algorithm=PowAlgorithm(spec.pow_algorithm),
        pow_limit=int(spec.pow_limit, 16),
    )


def evm_params(spec: ChainSpec, assets: Iterable[AssetSpec]) -> EvmParams:
    """What the evm family needs of a spec and its assets. ValueError when something is missing."""
    if spec.evm_chain_id is None:
        raise ValueError(f"{spec.network}: a chain id is required")
    assets = list(assets)
    return EvmParams(
        network=spec.network,
        chain_id=spec.evm_chain_id,
        native_asset=spec.native_asset,
        tokens={asset.contract.lower(): asset.id for asset in assets if asset.contract is not None},
        coin_type=spec.coin_type,
        xpub_versions=frozenset(bytes.fromhex(item) for item in spec.xpub_versions),
        has_finalized_tag=_has_finalized_tag(spec.finality),
        native_mirror=next((item.native_mirror for item in assets if item.native_mirror), None),
        asks_traces=spec.traces is Traces.AUTO,
        batch_contract=spec.batch_contract,
        collector=spec.collector,
        safe=spec.safe,
    )


def _has_finalized_tag(finality: Finality) -> bool:
    match finality:
        case Finality.FINALIZED_TAG:
            return True
        case Finality.DEPTH:
            return False
        case _:
            assert_never(finality)


def _bitcoin(
    spec: ChainSpec,
    node_urls: Sequence[str],
    _assets: Sequence[AssetSpec],
    transport: PacedPost,
    clock: Clock,
    verifier: Verifier,
) -> DescribedChain:
    return BitcoinChain(
        bitcoin_params(spec),
        node_urls,
        post=transport,
        clock=clock,
        close=_closing(transport, verifier),
        verify=verifier,
    )


def _evm(
    spec: ChainSpec,
    node_urls: Sequence[str],
    assets: Sequence[AssetSpec],
    transport: PacedPost,
    clock: Clock,
    verifier: Verifier,
) -> DescribedChain:
    return EvmChain(
        evm_params(spec, assets),
        node_urls,
        post=transport,
        clock=clock,
        close=_closing(transport, verifier),
        verify=verifier,
    )


def _closing(transport: PacedPost, verifier: Verifier) -> Callable[[], Awaitable[None]]:
    """Closes both; nodes of a network share the verifier, which may be closed more than once."""

    async def close() -> None:
        await transport.close()
        await verifier.close()

    return close


FACTORIES: Mapping[Family, Factory] = {Family.BITCOIN: _bitcoin, Family.EVM: _evm}
