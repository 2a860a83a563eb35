"""How a checkpoint of a bucket gets its names, request by request.

Whatever a request waits for on its way, it changes nothing that another holder of the
folder has found or written.
"""

import contextlib

import pytest

from common import claims, gcs
from common.claims import Held
from common.errors import Restart
from tests.support.own_bucket import own_bucket
from train.checkpoints import commit

RUN = "gs://bucket/run"
FINAL = f"{RUN}/ckpt-20"
CHANGES = ("insert", "rewrite", "delete")


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with own_bucket(tmp_path_factory.mktemp("bucket"), writes_per_second=0) as store:
        yield store


@pytest.fixture
def store(serving, monkeypatch):
    """An empty bucket whose faults, and what meets them, are this test's."""
    serving.buckets["bucket"].clear()
    monkeypatch.setattr(serving, "fault", serving.fault)  # as it is now, at the end
    yield serving
    serving.faults = []


def stage(name):
    """A staged checkpoint that says whose it is."""
    for suffix in commit.ORDER:
        gcs.write(f"{RUN}/.staging-{name}/ckpt-20{suffix}", name.encode(), 0)
    return f"{RUN}/.staging-{name}/ckpt-20"


def there(store):
    content = store.content("bucket", "run/ckpt-20")
    return {name.removeprefix("run/ckpt-20"): one for name, one in content.items()}


def all_of(name):
    return dict.fromkeys(commit.ORDER, name.encode())


def let_wait(store, number, meanwhile):
    """Do something before the n-th request that changes anything is done."""
    fault, left = store.fault, [number, ""]

    def meet(op, name):
        left[0] -= op in CHANGES
        if left[0] == -1 and not left[1]:
            left[1] = f"{op} {name}"
            meanwhile()
        return fault(op, name)

    store.fault = meet
    return left


def take_over(store, stack, *, writes, removes=True):
    """Become the holder of the folder, whose last one is still at work."""
    store.clock_skew += 1000
    claim = stack.enter_context(claims.hold(RUN, "the next"))
    for suffix in commit.ORDER:  # as bundle.remove_stale
        staged = f"{RUN}/.staging-first/ckpt-20{suffix}"
        if removes and (found := gcs.look(staged)):
            gcs.remove(staged, found.generation)
    commit.outdate([f"{FINAL}{commit.INDEX}"])
    if writes:
        assert commit.commit(stage("next"), RUN, claim.check) == FINAL
    return there(store)


def test_a_checkpoint_gets_its_names(store):
    assert commit.commit(stage("one"), RUN, claims.no_fence) == FINAL
    assert there(store) == all_of("one")
    commit.commit(stage("two"), RUN, claims.no_fence)
    assert there(store) == all_of("two")
    remove_all(claims.no_fence)
    remove_all(claims.no_fence)  # and what is gone
    assert there(store) == {}


@pytest.mark.parametrize(
    ("removes", "writes"),
    [(True, False), (True, True), (False, True)],  # the last: what was read is copied
)
@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.long
def test_a_late_commit_changes_nothing(store, was_there, removes, writes):
    how = {"removes": removes, "writes": writes}
    waited, number = [], 0
    while len(waited) == number:
        store.buckets["bucket"].clear()
        if was_there:
            commit.commit(stage("before"), RUN, claims.no_fence)
        with claims.hold(RUN, "the first") as claim, contextlib.ExitStack() as stack:
            path, found = stage("first"), {}
            wait = let_wait(
                store,
                number,
                lambda f=found, s=stack: f.update(take_over(store, s, **how)),
            )
            try:
                commit.commit(path, RUN, claim.check)
            except Held:
                waited.append(wait[1])
                assert there(store) == found
                assert writes <= (found == all_of("next"))
        number += 1
    renames = [f"rewrite run/ckpt-20{suffix}" for suffix in commit.ORDER]
    assert waited == ["delete run/ckpt-20.index"] * was_there + renames


def remove_all(fence):
    for suffix in reversed(commit.ORDER):
        commit.remove(f"{FINAL}{suffix}", fence)


def test_a_late_deletion_changes_nothing(store):
    for number, suffix in enumerate(reversed(commit.ORDER)):
        store.buckets["bucket"].clear()
        commit.commit(stage("before"), RUN, claims.no_fence)
        found = {}
        with claims.hold(RUN, "the first") as claim, contextlib.ExitStack() as stack:
            wait = let_wait(
                store,
                number,
                lambda f=found, s=stack: f.update(take_over(store, s, writes=True)),
            )
            with pytest.raises(Held):
                remove_all(claim.check)
            assert wait[1] == f"delete run/ckpt-20{suffix}"
            assert there(store) == found == all_of("next")


@pytest.mark.parametrize("op", ["rewrite", "delete"])
def test_an_answer_that_got_lost(store, op):
    commit.commit(stage("one"), RUN, claims.no_fence)
    path = stage("two")
    store.faults = [{"op": op, "do": "done_503", "times": 3}]
    commit.commit(path, RUN, claims.no_fence)
    assert there(store) == all_of("two")


def test_what_was_staged_is_gone(store):
    path = stage("one")
    gcs.remove(
        f"{path}.index", store.buckets["bucket"][f"{path[12:]}.index"].generation
    )
    with pytest.raises(Restart, match=r"ckpt-20\.index was changed by somebody else"):
        commit.commit(path, RUN, claims.no_fence)


def test_the_fence_is_asked_before_each_change(store):
    asked = []
    commit.commit(stage("one"), RUN, claims.no_fence)
    commit.commit(stage("two"), RUN, lambda: asked.append(there(store)))
    one, two = all_of("one"), all_of("two")
    del one[commit.INDEX]
    assert asked[0] == all_of("one")
    assert asked[1] == one
    assert asked[-1] == {s: two[s] for s in commit.ORDER[:2]}
