"""`GET /v1/ledger/trial_balance`, `GET /v1/wallets`: read-only views.

Brand principals see what is theirs (row-level security narrows the accounts); pooled wallets are
the operator's.
"""

from contextlib import suppress
from typing import Literal

from config.policy import Band
from gateway.api.endpoint import Call, endpoint
from gateway.api.wire_base import WireContext, rfc3339
from gateway.api.wire_query import MomentQuery, Page, PageQuery, moment_of
from gateway.api.wire_resources import (
    AccountBalance,
    AssetTotal,
    BandOut,
    TrialBalanceOut,
    WalletOut,
)
from gateway.auth import PrincipalKind
from ledger import balances
from ledger.accounts import AccountKind
from watchers import addresses, coins
from watchers.errors import PoolEmpty

NOT_CLIENTS = frozenset({PrincipalKind.OPERATOR, PrincipalKind.STAFF})


@endpoint(
    "GET",
    "/v1/ledger/trial_balance",
    "Every account with its balance, now or as of a moment.",
    answers=TrialBalanceOut,
    query=MomentQuery,
    scopes=frozenset({"ledger:read"}),
)
async def get_trial_balance(call: Call) -> TrialBalanceOut:
    """`balanced` speaks of the whole books, and of a brand's part of them only for operators."""
    query: MomentQuery = call.query
    at = moment_of(query.at, field="at")
    report = await balances.trial_balance(call.uow, at=at)
    wire = call.services.wire
    is_whole = call.one_brand is None
    return TrialBalanceOut(
        at=rfc3339(at or call.at),
        balanced=report.is_balanced if is_whole else True,
        totals=[
            AssetTotal(
                asset=total.asset,
                debits_minor=str(total.debit_minor),
                credits_minor=str(total.credit_minor),
                balanced=total.debit_minor == total.credit_minor,
            )
            for total in report.totals
            if is_whole
        ],
        accounts=[
            AccountBalance(
                account=account.code,
                asset=account.asset,
                side=account.normal_side.value,
                balance=wire.amount(account.balance_minor, account.asset),
                balance_minor=str(account.balance_minor),
            )
            for account in report.accounts
            if is_whole or account.brand == call.one_brand
        ],
    )


@endpoint(
    "GET",
    "/v1/wallets",
    "Custody by the books and by chain state, with bands.",
    answers=Page[WalletOut],
    query=PageQuery,
    scopes=frozenset({"treasury:read", "ledger:read"}),
)
async def list_wallets(call: Call) -> Page[WalletOut]:
    """A brand sees its own deposit wallets; the pooled ones are the operator's."""
    return Page[WalletOut](items=await _wallets(call), next_cursor=None)


async def _wallets(call: Call) -> list[WalletOut]:
    brand = call.one_brand
    rows = await balances.balances(call.uow, kind=AccountKind.CUSTODY, brand=brand)
    held = {row.code: row for row in rows if brand is None or row.brand == brand}
    chain = {} if brand is not None else await _chain_amounts(call)
    receiving = {} if brand is not None else await _hot_addresses(call)
    wallets = []
    for row in held.values():
        wallet = row.wallet or ""
        network, _, role = wallet.partition("/")
        is_hot = role == "hot"
        on_chain = chain.get(row.asset) if is_hot else None
        wallets.append(
            _wallet(
                call.services.wire,
                wallet=wallet,
                network=network,
                asset=row.asset,
                brand=row.brand,
                address=receiving.get(network) if is_hot else None,
                ledger_minor=row.balance_minor,
                chain_minor=on_chain,
                band=call.services.registry.policy.bands.get(row.asset) if is_hot else None,
            )
        )
    for asset, band in call.services.registry.policy.bands.items():
        network = asset.partition(":")[0]
        if brand is None and f"custody:{network}/hot:{asset}" not in held:
            wallets.append(
                _wallet(
                    call.services.wire,
                    wallet=f"{network}/hot",
                    network=network,
                    asset=asset,
                    brand=None,
                    address=receiving.get(network),
                    ledger_minor=0,
                    chain_minor=chain.get(asset),
                    band=band,
                )
            )
    return sorted(wallets, key=lambda item: (item.wallet, item.asset))


async def _hot_addresses(call: Call) -> dict[str, str]:
    """Where each network's hot wallet receives; missing until the signer has verified it."""
    found = {}
    for network in call.services.registry.chains:
        with suppress(PoolEmpty):
            row = await addresses.own_address(call.uow, network=network, role="hot")
            found[network] = row.address
    return found


async def _chain_amounts(call: Call) -> dict[str, int]:
    """Mined coins of UTXO hot wallets by asset; account chains need a node: not in here."""
    found = {}
    for network, spec in call.services.registry.chains.items():
        if spec.family.value == "bitcoin":
            rows = await coins.open_mined(call.uow, network=network)
            found[spec.native_asset] = sum(row.amount_minor for row in rows if not row.is_cold)
    return found


def _wallet(
    wire: WireContext,
    *,
    wallet: str,
    network: str,
    asset: str,
    brand: str | None,
    address: str | None,
    ledger_minor: int,
    chain_minor: int | None,
    band: Band | None,
) -> WalletOut:
    return WalletOut(
        wallet=wallet,
        network=network,
        asset=asset,
        brand=brand,
        address=address,
        ledger=wire.amount(ledger_minor, asset),
        ledger_minor=str(ledger_minor),
        chain=None if chain_minor is None else wire.amount(chain_minor, asset),
        chain_minor=None if chain_minor is None else str(chain_minor),
        band=None if band is None else _band(wire, band, asset, ledger_minor),
    )


def _band(wire: WireContext, band: Band, asset: str, held_minor: int) -> BandOut:
    status: Literal["low", "ok", "high"] = "ok"
    if held_minor < band.min_minor:
        status = "low"
    elif held_minor > band.max_minor:
        status = "high"
    return BandOut(
        min=wire.amount(band.min_minor, asset),
        target=wire.amount(band.target_minor, asset),
        max=wire.amount(band.max_minor, asset),
        status=status,
    )
