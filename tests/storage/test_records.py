"""The contract of a store, for what it keeps of keys, accounts, money and answers. Every implementation runs it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from naru.storage.port import Store
from naru.storage.records import AuditRecord, LimitRecord
from tests.storage.conftest import Open
from tests.storage.samples import ANSWER, AUDIT, BUDGET, CODE, CREDIT, ENTRY, KEY, ORG, SCOPE, TEAM, USD, entry


def with_team(store: Store) -> Store:
    store.add_account(ORG).result()
    store.add_account(TEAM).result()
    return store


def test_keys_come_back_as_they_were(open_store: Open) -> None:
    """Every field, also after the store was closed and opened; text that looks like JSON stays text."""
    store = with_team(open_store())
    store.add_key(KEY).result()
    bare = replace(
        KEY, id="k2", account=None, expires_at=None, models=(), addresses=(), limits=LimitRecord(), metadata={}
    )
    store.add_key(bare).result()
    store.close()
    assert open_store().keys().result() == [KEY, bare]


def test_a_key_changes_in_all_but_its_identity(store: Store) -> None:
    """Digest and time of making stay; a key that is not there is said to be so."""
    with_team(store).add_key(KEY).result()
    changed = replace(KEY, name="other", revoked_at=5.0, expires_at=None, models=(), limits=LimitRecord(tpm=1))
    assert store.save_key(replace(changed, digest=b"x" * 32, created_at=77.0)).result() is True
    assert store.keys().result() == [changed]
    assert store.save_key(replace(KEY, id="none")).result() is False


def test_accounts_come_back_and_change(store: Store) -> None:
    """Kind and time of making stay. A name belongs to one account."""
    with_team(store)
    assert store.accounts().result() == [ORG, TEAM]
    closed = replace(TEAM, name="www", closed_at=9.0, parent=None, time_zone="Asia/Seoul")
    assert store.save_account(replace(closed, kind="organisation")).result() is True
    assert store.accounts().result() == [ORG, closed]
    assert store.save_account(replace(TEAM, id="none", name="else")).result() is False
    with pytest.raises(Exception, match="UNIQUE"):
        store.add_account(replace(ORG, id="org-2")).result()


def test_a_changed_budget_holds_for_its_window_under_way(store: Store) -> None:
    """Amount and alerts change, owner and window do not; the scope that is open gets the new limit."""
    store.add_budget(BUDGET).result()
    store.open_scope(SCOPE).result()
    changed = replace(BUDGET, amount_nano=3 * USD, alerts=(900,), removed_at=7.0)
    assert store.save_budget(replace(changed, owner="k9", window="day")).result() is True
    assert store.budgets().result() == [changed]
    assert [scope.limit_nano for scope in store.scopes().result()] == [3 * USD]
    assert store.save_budget(replace(BUDGET, id="none")).result() is False


def test_credits_add_up(store: Store) -> None:
    """The scope of the credits is what was put in, less what was taken out; owners are apart."""
    scope = store.add_credit(CREDIT).result()
    assert scope is not None
    assert (scope.owner, scope.mode, scope.limit_nano) == ("k1", "credit", 5 * USD)
    more = replace(CREDIT, id="crd-2", reference=None, at=4.0)
    taken = replace(CREDIT, id="crd-3", reference=None, at=5.0, kind="refund", amount_nano=-2 * USD)
    store.add_credit(more).result()
    store.add_credit(taken).result()
    store.add_credit(replace(CREDIT, id="crd-4", owner="k2")).result()
    assert store.credits("k1").result() == [CREDIT, more, taken]
    assert [scope.limit_nano for scope in store.scopes("k1").result()] == [8 * USD]
    assert store.problems().result() == []


def test_a_reference_counts_once_for_an_owner(store: Store) -> None:
    """The second changes nothing; another owner may use the same words."""
    store.add_credit(CREDIT).result()
    assert store.add_credit(replace(CREDIT, id="crd-2")).result() is None
    assert [scope.limit_nano for scope in store.scopes("k1").result()] == [5 * USD]
    assert store.credits("k1").result() == [CREDIT]
    assert store.add_credit(replace(CREDIT, id="crd-3", owner="k2")).result() is not None


@pytest.mark.parametrize(("leased", "taken", "is_done"), [(0, 5, True), (0, 6, False), (2, 3, True), (2, 4, False)])
def test_what_is_leased_cannot_be_taken_out(store: Store, leased: int, taken: int, is_done: bool) -> None:
    store.add_credit(CREDIT).result()
    place = store.scopes("k1").result()[0].id
    assert store.lease("a", place, leased * USD, leased * USD).result() == leased * USD
    done = store.add_credit(replace(CREDIT, id="c2", reference=None, kind="refund", amount_nano=-taken * USD)).result()
    assert (done is not None) is is_done
    assert len(store.credits("k1").result()) == 1 + is_done
    assert store.problems().result() == []


def test_a_refund_of_nothing_leaves_nothing(store: Store) -> None:
    """No empty credits, which would refuse whatever the owner asks for."""
    assert store.add_credit(replace(CREDIT, kind="refund", amount_nano=-1)).result() is None
    assert (store.scopes().result(), store.credits("k1").result()) == ([], [])


def test_a_code_is_redeemed_once(store: Store) -> None:
    """Its own amount counts, not the asker's; who took it is known."""
    store.add_code(CODE).result()
    used = store.redeem(CODE.digest, replace(CREDIT, kind="code", amount_nano=99 * USD)).result()
    assert used == replace(CODE, redeemed_at=3.0, redeemed_by="k1")
    assert store.redeem(CODE.digest, replace(CREDIT, id="c2", owner="k2", reference=None)).result() is None
    assert store.codes().result() == [used]
    assert [credit.amount_nano for credit in store.credits("k1").result()] == [2 * USD]
    assert store.credits("k2").result() == []


@pytest.mark.parametrize(("digest", "at"), [(b"?" * 32, 3.0), (CODE.digest, 100.0), (CODE.digest, 101.0)])
def test_unknown_and_expired_codes_are_worth_nothing(store: Store, digest: bytes, at: float) -> None:
    store.add_code(CODE).result()
    assert store.redeem(digest, replace(CREDIT, at=at)).result() is None
    assert (store.codes().result(), store.credits("k1").result(), store.scopes().result()) == ([CODE], [], [])


def test_the_audit_log_goes_back_in_pages(store: Store) -> None:
    """Newest first, numbered; text in the detail stays as it was."""
    for number in range(5):
        store.note(replace(AUDIT, target=f"t{number}")).result()
    page = store.audit(2).result()
    assert [record.target for record in page] == ["t4", "t3"]
    rest = store.audit(10, before=page[-1].id).result()
    assert [record.target for record in rest] == ["t2", "t1", "t0"]
    assert rest[-1] == AuditRecord(1.0, "local", "key.create", "t0", '{"name":"x"}', rest[-1].id)


def test_an_answer_is_kept_until_it_expires(store: Store) -> None:
    """By key and idempotency key; the later one stands in the place of the earlier."""
    store.keep_answer(ANSWER).result()
    assert store.answer("k1", "idem", 49.9).result() == ANSWER
    for who, what, now in (("k1", "idem", 50.0), ("k2", "idem", 1.0), ("k1", "other", 1.0)):
        assert store.answer(who, what, now).result() is None
    later = replace(ANSWER, status=201, expires_at=90.0)
    store.keep_answer(later).result()
    assert store.answer("k1", "idem", 60.0).result() == later


def test_forgetting_drops_answers_and_words_never_figures(store: Store) -> None:
    """Expired answers go, and what people wrote in requests that are old enough; entries stay."""
    store.keep_answer(ANSWER).result()
    store.keep_answer(replace(ANSWER, idempotency_key="late", expires_at=500.0)).result()
    store.apply("a", [ENTRY, entry("r2", at=3000.0)], (1, 10)).result()
    assert store.forget(60.0, None).result() == 1
    assert store.forget(60.0, 2000.0).result() == 1
    assert store.answer("k1", "late", 60.0).result() is not None
    kept = {each.request_id: each.content for each in store.entries(0, 1e12, 10).result()}
    assert kept == {"r1": None, "r2": "words"}
    assert store.problems().result() == []
