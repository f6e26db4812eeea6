"""What must be true at the end of a walk: the books are what the canonical chain says.

The chain is read by the arena from the node's own JSON, not by the watcher's decoders.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from config.assets import AssetSpec
from config.chains import Family
from tests.simulation.arena import Arena, Paid
from tests.support.watching import Watch
from watchers.deposits import DepositRow, DepositState

_OPEN = frozenset(
    {
        DepositState.DETECTED,
        DepositState.PENDING,
        DepositState.PROVISIONAL,
        DepositState.ORPHANED,
    }
)
_COUNTED = frozenset({DepositState.FINAL, DepositState.BELOW_MINIMUM})
_GONE = frozenset({DepositState.REVERSED, DepositState.DROPPED, DepositState.REPLACED})

Owners = Mapping[str, tuple[str, str]]
"""Deposit address -> (brand, player)."""


class BooksAreWrong(AssertionError):
    """The books are not what the chain says."""


def unsettled(deposits: Collection[DepositRow]) -> list[DepositRow]:
    """Deposits that more blocks will still move."""
    return [
        item
        for item in deposits
        if item.state in _OPEN
        or (item.state is DepositState.BELOW_MINIMUM and item.credited_stage is None)
    ]


async def count_steps(watch: Watch) -> Counter[str]:
    """How often each step of the lifecycle was made."""
    async with watch.as_owner.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT coalesce(from_state, '') || '>' || to_state AS step, count(*) AS times "
            "FROM ledger.state_history WHERE object_kind = 'deposit' GROUP BY 1"
        )
        return Counter({row.step: int(row.times) for row in found})


async def compare(
    watch: Watch, arena: Arena, owners: Owners, *, above: int, held: Mapping[str, int]
) -> None:
    """Raises BooksAreWrong with every difference, or what the auditor found.

    `held`: what the addresses held before the walk, by the node's own sums.
    """
    deposits = await watch.deposits()
    truth = await arena.truth(owners, above=above)
    wrong = _deposits_against(truth, deposits, owners)
    asset_of = {item.id: item for item in watch.registry.assets.values()}
    expected = _expected_books(truth, owners, asset_of, family=watch.network.family)
    books = await watch.books()
    wrong += [
        f"account {code}: books {books.get(code, 0)}, chain {expected.get(code, 0)}"
        for code in sorted(books.keys() | expected.keys())
        if books.get(code, 0) != expected.get(code, 0)
    ]
    for asset, amount in (await arena.holds(owners)).items():
        paid = sum(item.amount_minor for item in truth if item.asset == asset)
        if amount - held[asset] != paid:
            wrong.append(f"{asset}: the node holds {amount - held[asset]} more, paid was {paid}")
    if wrong:
        raise BooksAreWrong("; ".join(wrong))
    await watch.audit()


def _deposits_against(
    truth: Sequence[Paid], deposits: Sequence[DepositRow], owners: Owners
) -> list[str]:
    """Each payment of the chain is counted once with its amount and owner, and nothing else is."""
    wrong = [
        f"{item.asset} {item.txid} {item.position} rests {item.state}"
        for item in deposits
        if item.state not in _COUNTED | _GONE
    ]
    counted = [
        _fact(item, item.brand, item.player_id) for item in deposits if item.state in _COUNTED
    ]
    real = [_fact(item, *owners[item.address]) for item in truth]
    wrong += [f"counted, and not on the chain: {item}" for item in Counter(counted) - Counter(real)]
    wrong += [f"on the chain, and not counted: {item}" for item in Counter(real) - Counter(counted)]
    return wrong


def _fact(item: DepositRow | Paid, brand: str, player: str) -> tuple[str | int, ...]:
    """What a payment and its deposit have in common, all of it."""
    return (
        item.txid, item.position, item.asset, item.amount_minor, item.address, brand, player
    )  # fmt: skip


def _expected_books(
    truth: Sequence[Paid], owners: Owners, assets: Mapping[str, AssetSpec], *, family: Family
) -> dict[str, int]:
    """Custody holds every payment; clearing those from the minimum on, by brand."""
    books: Counter[str] = Counter()
    for item in truth:
        brand, _ = owners[item.address]
        spec = assets[item.asset]
        is_small = item.amount_minor < spec.minimum_deposit_minor
        into = f"unallocated:{item.asset}" if is_small else f"brand:{brand}:clearing:{item.asset}"
        wallet = "hot" if family is Family.BITCOIN else f"deposit/{brand}"
        books[f"custody:{spec.network}/{wallet}:{item.asset}"] += item.amount_minor
        books[into] += item.amount_minor
    return dict(books)
