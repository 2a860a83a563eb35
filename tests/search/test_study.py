"""Which network comes next, whoever asks, however often somebody dies."""

import dataclasses
import random

import pytest

from common.errors import UserError
from search.block_search import BlockSearch
from search.engine.evaluation import evaluate
from search.engine.folder_store import FolderStore
from search.engine.result_files import ResultLog, read, worker_name
from search.engine.store import Watch
from search.engine.study import Study, end_expired, place
from search.networks.space import Exhausted
from search.results import Result
from tests.support import toy_search


def settings(**changes):
    known = {
        "space": toy_search.Space(),
        "sampler": toy_search.Sampler(),
        "objective": toy_search.objective,
        "latency": toy_search.latency,
        "accuracy": toy_search.accuracy,
        "evaluations": 60,
        "lag": 5,
    }
    return BlockSearch(**{**known, **changes})


class Hand:
    """A worker without a process: its study, and the tasks that it has taken."""

    def __init__(self, folder, config):
        self.name = worker_name()
        self.config = config
        self.store = FolderStore(folder)
        self.log = ResultLog(folder, self.name)
        self.study = Study(config, self.store, self.log, self.name)
        self.tasks = []

    def take(self):
        if task := self.study.ask():
            self.tasks.append(task)
        return task

    def must_take(self):
        task = self.take()
        assert task is not None
        return task

    def tell(self, task):
        lease = task.lease
        answer = evaluate(self.config, lease.network, task.rung)
        self.tasks.remove(task)
        result = Result(
            **answer,
            number=lease.number,
            network=lease.network,
            digest=task.digest,
            rung=task.rung,
            worker=self.name,
            attempt=task.attempt,
        )
        self.study.tell(lease, result)

    def die(self):
        self.log.close()


def search(folder, config, hands=1, seed=0, deaths=0):
    """Run a search with so many workers that take turns by chance, and some deaths."""
    rng = random.Random(seed)
    watcher, watch = FolderStore(folder), Watch(1e9)
    crew = [Hand(folder, config) for _ in range(hands)]
    while True:
        hand = rng.choice(crew)
        if hand.tasks and rng.random() < 0.5:
            hand.tell(rng.choice(hand.tasks))
        elif len(hand.tasks) < 2 and hand.take():
            if deaths and rng.random() < 0.3:
                deaths -= 1
                hand.die()
                crew[crew.index(hand)] = Hand(folder, config)
        elif not any(hand.tasks for hand in crew) and hand.study.is_done:
            break
        end_expired(watcher.look(), watcher, watch, folder)
    for hand in crew:
        hand.die()
    return read(folder)


def what(results):
    """All that has to be the same."""
    return [(r.number, r.network, r.rung, r.value, r.top1, r.reason) for r in results]


def test_any_number_of_workers_and_deaths_give_the_same_results(tmp_path):
    config = settings(latency=_failing)
    alone, three, dying = (tmp_path / name for name in ("1", "3", "deaths"))
    for folder in (alone, three, dying):
        folder.mkdir()
    expected = search(alone, config)
    assert [result.number for result in expected] == list(range(60))
    assert len({result.network for result in expected}) > 30
    assert any(result.value is None for result in expected)
    assert what(search(three, config, hands=3, seed=1)) == what(expected)
    found = search(dying, config, hands=3, seed=2, deaths=8)
    assert what(found) == what(expected)
    assert sum(result.attempt > 1 for result in found) >= 4
    assert len({result.worker for result in found}) > 3


def _failing(variant):
    return toy_search.latency(variant, fails=True)


def test_results_decide_what_comes(tmp_path):
    """Else the test above would say nothing."""
    one, other = tmp_path / "1", tmp_path / "2"
    for folder in (one, other):
        folder.mkdir()
    found = search(one, settings())
    worse = search(other, settings(objective=lambda top1, ms: -top1))
    assert [r.network for r in found[:6]] == [r.network for r in worse[:6]]
    assert [r.network for r in found[6:]] != [r.network for r in worse[6:]]


def test_only_results_below_the_lag_are_shown(tmp_path):
    shown = []

    class Spy(toy_search.Sampler):
        def ask(self, space, history, number):
            shown.append((number, len(history)))
            return super().ask(space, history, number)

    search(tmp_path, settings(sampler=Spy(), lag=5, evaluations=20), hands=3)
    assert set(shown) == {(n, max(0, n - 5)) for n in range(20)}


def test_no_more_than_the_lag_are_under_way(tmp_path):
    hand = Hand(tmp_path, settings(lag=4))
    tasks = [hand.must_take() for _ in range(5)]
    assert [task.lease.number for task in tasks] == [0, 1, 2, 3, 4]
    assert hand.take() is None
    hand.tell(tasks[3])
    assert hand.take() is None  # 0 is missing
    hand.tell(tasks[0])
    assert hand.must_take().lease.number == 5
    assert not hand.study.is_done
    hand.die()


# -- rungs --------------------------------------------------------------------------


def test_what_numbers_stand_for():
    rungs, lag = (4, 2, 1), 2
    places = [place(number, rungs, lag) for number in range(14)]
    assert [p.rung for p in places] == [0, 0, 0, 0, 1, 1, 2] * 2
    assert [p.rank for p in places] == [0, 1, 2, 3, 0, 1, 0, 4, 5, 6, 7, 0, 1, 0]
    # New network 4 is chosen from the first two, and stands at number 7; 6 from the
    # first four, with the rungs above them not in the way.
    assert [p.needs for p in places] == [0, 0, 0, 1, 4, 4, 6, 2, 3, 4, 8, 11, 11, 13]
    assert [list(p.below) for p in places[4:7]] == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5]]
    assert list(places[13].below) == [11, 12]


def test_a_place_needs_only_what_is_before_it():
    for rungs in ((), (1,), (3,), (27, 9, 3), (2, 2, 2), (5, 1)):
        for lag in (1, 2, 16, 100):
            for number in range(200):
                where = place(number, rungs, lag)
                assert 0 <= where.needs <= number
                assert all(below < where.needs for below in where.below)


def test_the_best_go_on(tmp_path):
    config = settings(rungs=(6, 3, 1), evaluations=30, lag=4)
    results = search(tmp_path, config, hands=3, seed=3)
    for begin in (0, 10, 20):
        first, second = results[begin : begin + 6], results[begin + 6 : begin + 9]
        (last,) = results[begin + 9 : begin + 10]
        assert [r.rung for r in results[begin : begin + 10]] == [0] * 6 + [1] * 3 + [2]
        distinct = {r.network: r.value or 0.0 for r in first}
        ranked = sorted(distinct, key=lambda network: -distinct[network])
        assert [r.network for r in second] == ranked[:3]
        assert last.network == max(second, key=lambda r: r.value or 0.0).network
        # What the toy's accuracy gives for a rung of training.
        assert last.value == pytest.approx(distinct[last.network] + 20)


def test_rungs_do_not_depend_on_who_works(tmp_path):
    config = settings(rungs=(6, 3, 1), evaluations=40, latency=_failing)
    alone, together = tmp_path / "1", tmp_path / "3"
    for folder in (alone, together):
        folder.mkdir()
    one = search(alone, config)
    three = search(together, config, hands=3, seed=5, deaths=4)
    assert what(one) == what(three)


def test_what_has_failed_is_not_trained_further(tmp_path):
    fails = settings(rungs=(3, 2), evaluations=5, accuracy=toy_search.trouble)
    fails = dataclasses.replace(fails, latency=lambda variant: _none(variant))
    results = search(tmp_path, fails)
    assert [r.reason for r in results[:3]] == ["does not fit"] * 3
    assert [r.rung for r in results[3:]] == [1, 1]
    assert {r.reason for r in results[3:]} == {
        "not trained further: the rung below has failed"
    }


def _none(variant):
    return toy_search.Estimate(None, "toy", reason="does not fit")


# -- what needs no evaluation -------------------------------------------------------


def test_a_network_again_is_not_evaluated_again(tmp_path):
    class Same(toy_search.Sampler):
        def ask(self, space, history, number):
            return (1, 2, 3, 4, 0, number % 2)

    calls = []

    def latency(variant):
        calls.append(variant.name)
        return toy_search.latency(variant)

    config = settings(sampler=Same(), latency=latency, evaluations=6, lag=1)
    results = search(tmp_path, config)
    assert len(results) == 6
    assert calls == ["1-2-3-4-0-0", "1-2-3-4-0-1"]
    assert [r.value for r in results[2:]] == [r.value for r in results[:2]] * 2


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    config = settings(sampler=toy_search.Sampler(size=11))
    results = search(tmp_path, config, hands=2)
    assert [result.number for result in results] == list(range(11))


def test_a_network_that_workers_die_of_is_given_up(tmp_path):
    config = settings(attempts=2, evaluations=1)
    store, watch = FolderStore(tmp_path), Watch(1e9)
    for attempt in (1, 2):
        hand = Hand(tmp_path, config)
        assert hand.must_take().attempt == attempt
        hand.die()
        ended = end_expired(store.look(), store, watch, tmp_path)
        assert [(lease.number, why) for lease, why in ended] == [(0, "has died")]
    hand = Hand(tmp_path, config)
    assert hand.take() is None
    assert hand.study.is_done
    (result,) = read(tmp_path)
    assert (result.value, result.attempt) == (None, 3)
    assert result.reason == "gave up: 2 workers have died with it"
    hand.die()


def test_what_a_dead_worker_has_written_is_told_for_it(tmp_path):
    hand, store = Hand(tmp_path, settings()), FolderStore(tmp_path)
    task = hand.must_take()
    hand.log.append(Result(number=0, network="n", digest="d", value=7.0, worker="w"))
    hand.die()  # before it told anybody
    end_expired(store.look(), store, Watch(1e9), tmp_path)
    sight = store.look()
    assert sight.results[0].value == 7.0
    assert (sight.deaths, sight.leases) == ({}, ())
    assert task.lease.number == 0


def test_a_silent_worker_of_another_machine_is_taken_over(tmp_path):
    now = [0.0]
    store, watch = FolderStore(tmp_path), Watch(10.0, lambda: now[0])
    store.claim(0, "1-1-1-1-1-1", "elsewhere-1")
    for now[0] in (0.0, 4.0, 8.0):
        assert end_expired(store.look(), store, watch, tmp_path) == []
    now[0] = 11.0
    ((lease, why),) = end_expired(store.look(), store, watch, tmp_path)
    assert (lease.worker, why) == ("elsewhere-1", "gives no sign any more")
    assert store.look().deaths == {0: 1}


# -- settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lag": 0}, "lag = 0"),
        ({"evaluations": 1.5}, "evaluations = 1.5"),
        ({"rungs": (3, 9)}, "rungs"),
        ({"rungs": (0,)}, "rungs"),
        ({"rungs": 3}, "rungs"),
        ({"latency": 3}, "latency"),
        ({"memory_gb": 0}, "memory_gb"),
        ({"seconds_per_evaluation": float("nan")}, "seconds_per_evaluation"),
        ({"lease_seconds": 2.9}, "lease_seconds"),
        ({"attempts": 0}, "attempts"),
        ({"evaluations_per_process": 0}, "evaluations_per_process"),
    ],
)
def test_settings_that_make_no_sense(changes, why):
    with pytest.raises(UserError, match=why):
        settings(**changes)


def test_a_sampler_s_mistake_is_not_taken_for_the_end(tmp_path):
    class Wrong(toy_search.Sampler):
        def ask(self, space, history, number):
            raise UserError("no such choice")

    hand = Hand(tmp_path, settings(sampler=Wrong()))
    with pytest.raises(UserError, match="no such choice"):
        hand.take()
    hand.die()
    assert issubclass(Exhausted, UserError)
