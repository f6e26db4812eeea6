"""Who fits under the caps: laws of the decision, without a database."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from config.credit_policy import CONFIGURED, CapRule, CreditPolicy, Scope
from watchers.exposure import Candidate, Key, Usage, decide

ASSETS = ("btc:BTC", "eth:ETH")
CAPS = st.one_of(st.none(), st.integers(0, 60))
POLICIES = st.builds(
    lambda player, brand, asset: CreditPolicy(
        version=1,
        rules=(),
        caps=(
            CapRule(
                brand=None,
                player_minor=player,
                brand_minor=brand,
                asset_minor={} if asset is None else {"btc:BTC": asset},
            ),
        ),
    ),
    CAPS,
    CAPS,
    CAPS,
)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["anna", "bert", "carl"]),
        st.sampled_from(["acme", "zest"]),
        st.sampled_from(ASSETS),
        st.one_of(st.none(), st.integers(0, 40)),
    ),
    max_size=14,
)


def candidates(rows: list[tuple[str, str, str, int | None]]) -> list[Candidate]:
    """In the order of age."""
    return [
        Candidate(id=UUID(int=n), player_id=player, brand=brand, asset=asset, value_minor=value)
        for n, (player, brand, asset, value) in enumerate(rows)
    ]


def cap_of(policy: CreditPolicy, key: Key, item: Candidate) -> int | None:
    """The cap of a scope of a candidate."""
    return policy.cap(key[0], brand=item.brand, asset=item.asset)


@given(rows=ROWS, policy=POLICIES)
def test_no_cap_is_ever_exceeded(
    rows: list[tuple[str, str, str, int | None]], policy: CreditPolicy
) -> None:
    asking = candidates(rows)
    admitted = set(decide(asking, {}, policy))
    sums: Counter[Key] = Counter()
    caps: dict[Key, int | None] = {}
    for item in asking:
        for key in item.scopes():
            caps[key] = cap_of(policy, key, item)
            if item.id in admitted:
                sums[key] += item.value_minor or 0
                assert item.value_minor is not None or caps[key] is None
    assert all(cap is None or sums[key] <= cap for key, cap in caps.items())


@given(rows=ROWS, policy=POLICIES)
def test_nobody_passes_an_older_one_that_would_fit_alone(
    rows: list[tuple[str, str, str, int | None]], policy: CreditPolicy
) -> None:
    """Within one player and asset, where every scope is the same, age alone decides."""
    asking = candidates([("anna", "acme", "btc:BTC", row[3]) for row in rows])
    admitted = set(decide(asking, {}, policy))
    found = [cap_of(policy, key, asking[0]) for key in asking[0].scopes()] if asking else []
    caps = [cap for cap in found if cap is not None]
    waits = False
    for item in asking:
        if waits and caps:
            assert item.id not in admitted
        fits_alone = item.value_minor is not None and all(item.value_minor <= c for c in caps)
        waits = waits or (item.id not in admitted and fits_alone)


@given(rows=ROWS)
def test_without_caps_everybody_is_admitted(
    rows: list[tuple[str, str, str, int | None]],
) -> None:
    asking = candidates(rows)
    assert decide(asking, {}, CONFIGURED) == [item.id for item in asking]


@given(rows=ROWS, policy=POLICIES)
def test_the_decision_is_the_same_in_one_step_or_in_many(
    rows: list[tuple[str, str, str, int | None]], policy: CreditPolicy
) -> None:
    """Asked one after the other, with what waits asked again before: no one gains by the cut."""
    asking = candidates(rows)
    whole = decide(asking, {}, policy)
    usage: dict[Key, Usage] = {}
    taken: list[UUID] = []
    for end in range(1, len(asking) + 1):
        open_ = [item for item in asking[:end] if item.id not in taken]
        for item_id in decide(open_, usage, policy):
            taken.append(item_id)
            item = asking[item_id.int]
            for key in item.scopes():
                usage[key] = usage.get(key, Usage()).plus(item.value_minor)
    assert sorted(taken) == sorted(whole)


def test_what_is_not_known_fills_the_scope_that_has_a_cap_and_no_other() -> None:
    policy = CreditPolicy(
        version=1,
        rules=(),
        caps=(CapRule(brand=None, player_minor=None, brand_minor=10, asset_minor={}),),
    )
    (item,) = candidates([("anna", "acme", "btc:BTC", 1)])
    unknown = {(Scope.BRAND, "acme", ""): Usage(is_known=False)}
    elsewhere = {(Scope.PLAYER, "acme", "anna"): Usage(is_known=False)}
    assert decide([item], unknown, policy) == []
    assert decide([item], elsewhere, policy) == [item.id]
