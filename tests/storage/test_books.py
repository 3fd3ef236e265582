"""The contract of a store, for leases, entries and sums: what must be right to the nano-dollar."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from naru.storage.port import Store
from naru.storage.records import LedgerEntry, Only, ScopeRecord
from tests.storage.conftest import Open
from tests.storage.samples import BUDGET, CREDIT, ENTRY, KEY, NEVER, ORG, SCOPE, TEAM, USD, entry


def with_scope(store: Store, limit: int = 10 * USD, mode: str = "strict") -> ScopeRecord:
    store.add_budget(replace(BUDGET, amount_nano=limit, mode=mode)).result()
    return store.open_scope(replace(SCOPE, limit_nano=limit, mode=mode)).result()


def the_scope(store: Store) -> ScopeRecord:
    (scope,) = store.scopes().result()
    return scope


def charged(request_id: str, cost: int, scope: str = SCOPE.id) -> LedgerEntry:
    return entry(request_id, cost_nano=cost, scopes=(scope,))


# --- Leases -----------------------------------------------------------------------------------------------------------


def test_a_scope_is_opened_once(store: Store) -> None:
    """The second finds the first as it stands, whatever it says itself."""
    with_scope(store)
    store.lease("a", SCOPE.id, 1, USD).result()
    found = store.open_scope(replace(SCOPE, limit_nano=99 * USD)).result()
    assert (found.limit_nano, found.leased_nano) == (10 * USD, USD)


def test_leases_never_come_to_more_than_the_limit(store: Store) -> None:
    """What is left is granted, and nothing where less than is needed is left."""
    with_scope(store)
    assert store.lease("a", SCOPE.id, USD, 7 * USD).result() == 7 * USD
    assert store.lease("b", SCOPE.id, 4 * USD, 5 * USD).result() == 0
    assert store.lease("b", SCOPE.id, USD, 5 * USD).result() == 3 * USD
    assert store.lease("a", SCOPE.id, 1, 1).result() == 0
    assert store.lease("a", "nothing", 1, 1).result() == 0
    assert the_scope(store).leased_nano == 10 * USD


def test_what_is_given_back_can_be_leased_again(store: Store) -> None:
    """At most what was held."""
    with_scope(store)
    store.lease("a", SCOPE.id, 1, 6 * USD).result()
    store.give_back("a", SCOPE.id, 2 * USD).result()
    assert the_scope(store).leased_nano == 4 * USD
    store.give_back("a", SCOPE.id, 99 * USD).result()
    store.give_back("b", SCOPE.id, USD).result()
    assert the_scope(store).leased_nano == 0
    assert store.problems().result() == []


def test_the_leases_of_one_process_end_without_those_of_another(store: Store) -> None:
    with_scope(store)
    store.lease("a", SCOPE.id, 1, 6 * USD).result()
    store.lease("b", SCOPE.id, 1, 1 * USD).result()
    store.end_leases("a").result()
    assert the_scope(store).leased_nano == USD
    store.end_leases("a").result()
    assert store.problems().result() == []


def test_scopes_by_owner(store: Store) -> None:
    store.add_budget(BUDGET).result()
    store.open_scope(SCOPE).result()
    store.add_credit(replace(CREDIT, owner="k2")).result()
    assert [scope.owner for scope in store.scopes().result()] == ["k1", "k2"]
    assert [scope.mode for scope in store.scopes("k2").result()] == ["credit"]
    assert store.scopes("nobody").result() == []


# --- Entries ----------------------------------------------------------------------------------------------------------


def test_entries_come_back_as_they_were(open_store: Open) -> None:
    """Every field, newest first, also after the store was closed and opened."""
    store = open_store()
    failed = entry(
        "r2", at=2000.0, ttft_us=None, error_code="x", is_stream=False, tried=(), content=None, is_estimated=True
    )
    store.apply("a", [ENTRY, failed], (1, 100)).result()
    store.close()
    again = open_store()
    assert again.entries(0, 1e12, 10).result() == [failed, ENTRY]
    assert again.entries(1500, 1e12, 10).result() == [failed]
    assert again.entries(0, 2000.0, 10).result() == [ENTRY]
    assert again.entries(0, 1e12, 1).result() == [failed]
    assert (again.entry("r1").result(), again.entry("r9").result()) == (ENTRY, None)
    assert again.position("a").result() == (1, 100)
    assert again.position("b").result() == (0, 0)


def test_pages_of_entries_of_the_same_moment(store: Store) -> None:
    """Each once, in one order."""
    store.apply("a", [entry(f"r{n}") for n in range(7)], (1, 1)).result()
    seen: list[str] = []
    before = None
    while page := store.entries(0, 1e12, 3, before).result():
        seen += [each.request_id for each in page]
        before = seen[-1]
    assert seen == [f"r{n}" for n in reversed(range(7))]


def test_entries_are_filtered(store: Store) -> None:
    """By keys, model, outcome and user; no keys is none."""
    store.apply(
        "a", [ENTRY, entry("r2", key_id="k2", model="n", outcome="failed", cost_nano=0, user_hash="")], (1, 1)
    ).result()

    def ids(only: Only) -> list[str]:
        return [each.request_id for each in store.entries(0, 1e12, 10, None, only).result()]

    assert ids(Only(keys=("k1",))) == ids(Only(model="m")) == ids(Only(user_hash="abc")) == ["r1"]
    assert ids(Only(outcome="failed")) == ids(Only(keys=("k2", "k3"))) == ["r2"]
    assert ids(Only(keys=())) == ids(Only(keys=("k1",), model="n")) == []


def test_a_request_has_one_entry(store: Store) -> None:
    """A second entry for the same request is refused, and the batch it came in leaves nothing behind: no charge, no position."""
    with_scope(store)
    store.apply("a", [charged("r1", 5)], (1, 10)).result()
    with pytest.raises(Exception, match="UNIQUE"):
        store.apply("a", [charged("r2", 7), charged("r1", 5)], (1, 20)).result()
    assert [each.request_id for each in store.entries(0, 1e12, 10).result()] == ["r1"]
    assert (the_scope(store).spent_nano, store.position("a").result()) == (5, (1, 10))
    assert store.usage("model", 0, 1e12).result()[0].requests == 1


def test_entries_charge_their_scopes_out_of_the_lease(store: Store) -> None:
    """What was leased becomes what was spent; nothing was overrun."""
    with_scope(store)
    store.lease("a", SCOPE.id, 1, 5 * USD).result()
    store.apply("a", [charged("r1", USD), charged("r2", 2 * USD)], (1, 1)).result()
    scope = the_scope(store)
    assert (scope.spent_nano, scope.leased_nano, scope.overrun_nano) == (3 * USD, 2 * USD, 0)
    store.end_leases("a").result()
    assert store.lease("b", SCOPE.id, 1, 10 * USD).result() == 7 * USD
    assert store.problems().result() == []


@pytest.mark.parametrize(("mode", "overrun"), [("strict", 2), ("balanced", 2), ("advisory", 0)])
def test_what_goes_past_the_limit_is_an_overrun(store: Store, mode: str, overrun: int) -> None:
    """Of a strict budget that is a finding; of a balanced one it is stated; an advisory one has no limit."""
    with_scope(store, 10, mode)
    store.apply("a", [charged("r1", 12)], (1, 1)).result()
    assert the_scope(store).overrun_nano == overrun
    assert [finding[:3] for finding in store.problems().result()] == (["I4:"] if mode == "strict" else [])


def test_a_parent_is_charged_with_its_child(store: Store) -> None:
    """Each scope of an entry gets all of its cost."""
    with_scope(store)
    store.add_credit(CREDIT).result()
    credit = store.scopes("k1").result()[-1].id
    store.apply("a", [entry("r1", cost_nano=7, scopes=(SCOPE.id, credit)), charged("r2", 1, credit)], (1, 1)).result()
    assert {scope.id: scope.spent_nano for scope in store.scopes().result()} == {SCOPE.id: 7, credit: 8}
    assert store.problems().result() == []


# --- Sums -------------------------------------------------------------------------------------------------------------


def test_usage_adds_up_by_each_grouping(store: Store) -> None:
    """Requests, failures, tokens and cost; for all keys, some, or none; a key by its name."""
    store.add_account(ORG).result()
    store.add_account(TEAM).result()
    store.add_key(KEY).result()
    entries = [entry(f"r{n}", at=86_400.0 * n, key_id="k1" if n % 2 else "k2") for n in range(4)]
    entries.append(entry("f", outcome="failed", cost_nano=0, ttft_us=None, latency_us=6500))
    store.apply("a", entries, (1, 1)).result()
    (by_model,) = store.usage("model", 0, 1e12).result()
    assert (by_model.requests, by_model.failed, by_model.input, by_model.cost_nano) == (5, 1, 50, 4 * 12_345)
    assert (by_model.mean_latency_us, by_model.mean_ttft_us) == (2500, 700)
    assert {row.group: row.requests for row in store.usage("key", 0, 1e12).result()} == {"mine [1]": 3, "k2": 2}
    days = ["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04"]
    assert [row.group for row in store.usage("day", 0, 1e12).result()] == days
    (own,) = store.usage("deployment", 0, 1e12, ["k2"]).result()
    assert own.requests == 2
    assert store.usage("model", 0, 1e12, []).result() == []
    assert store.usage("model", 5 * 86_400, 1e12).result() == []


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {"2026-01-01": 2, "2026-01-02": 1}),
        ("Asia/Seoul", {"2026-01-01": 1, "2026-01-02": 2}),
        ("America/New_York", {"2025-12-31": 1, "2026-01-01": 2}),
        # Off by a half hour: an hour belongs to the day in which it begins.
        ("Asia/Kolkata", {"2026-01-01": 1, "2026-01-02": 2}),
    ],
)
def test_days_in_a_zone(store: Store, zone: str, days: dict[str, int]) -> None:
    midnight = 1_767_225_600.0  # 2026-01-01 UTC
    times = (midnight + 3600, midnight + 22 * 3600, midnight + 25 * 3600)
    store.apply("a", [entry(f"r{n}", at=at) for n, at in enumerate(times)], (1, 1)).result()
    assert {row.group: row.requests for row in store.usage("day", 0, 1e12, None, zone).result()} == days


# --- Whatever happens -------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("lease"), st.sampled_from("ab"), st.integers(0, 60)),
        st.tuples(st.just("give"), st.sampled_from("ab"), st.integers(0, 60)),
        st.tuples(st.just("spend"), st.sampled_from("ab"), st.integers(0, 60)),
        st.tuples(st.just("end"), st.sampled_from("ab"), st.just(0)),
        st.tuples(st.just("put"), st.just("a"), st.integers(-60, 60)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_processes_that_spend_what_they_leased_never_overspend(
    open_store: Open, script: list[tuple[str, str, int]]
) -> None:
    """Against the plainest model: what was put in, what each holds, what was spent."""
    store = open_store()
    owner = f"o{len(store.entries(0, 1e12, 1000).result())}-{len(store.scopes().result())}"
    store.add_credit(replace(CREDIT, id=f"{owner}-0", owner=owner, reference=None, amount_nano=100)).result()
    place = store.scopes(owner).result()[0].id
    limit, spent, held = 100, 0, {"a": 0, "b": 0}
    for number, (what, who, amount) in enumerate(script, start=1):
        if what == "lease":
            left = limit - spent - sum(held.values())
            granted = store.lease(who, place, amount // 2, amount).result()
            assert granted == (min(left, amount) if left >= amount // 2 else 0)
            held[who] += granted
        elif what == "give":
            store.give_back(who, place, amount).result()
            held[who] -= min(held[who], amount)
        elif what == "spend":
            cost = min(amount, held[who])
            store.apply(who, [charged(f"{owner}-{number}", cost, place)], (1, number)).result()
            held[who], spent = held[who] - cost, spent + cost
        elif what == "end":
            store.end_leases(who).result()
            held[who] = 0
        elif amount:
            credit = replace(CREDIT, id=f"{owner}-{number}", owner=owner, reference=None, amount_nano=amount)
            is_possible = amount > 0 or limit + amount >= spent + sum(held.values())
            assert (store.add_credit(credit).result() is not None) is is_possible
            limit += amount if is_possible else 0
        (scope,) = store.scopes(owner).result()
        assert (scope.limit_nano, scope.spent_nano, scope.leased_nano) == (limit, spent, sum(held.values()))
        assert scope.overrun_nano == 0
    for who in "ab":
        store.end_leases(who).result()
    assert store.problems().result() == []
    assert store.scopes(owner).result()[0].ends_at == NEVER
    store.close()
