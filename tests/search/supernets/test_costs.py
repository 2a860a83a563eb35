"""Tables of latencies against the source that they come from."""

import dataclasses
import json
import random
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models import complexity, scaling
from search import spaces
from search.results import Estimate
from search.supernets import costs
from search.supernets.linear_costs import Equations
from search.supernets.milliseconds import Milliseconds
from search.supernets.selection import Selection

SPACE = spaces.blocks(
    "efficientnet-x-b0",
    {
        1: {"output_filters": [16, 24]},
        2: {
            "fused": [False, True],
            "kernel_size": [3, 5],
            "se_ratio": [0, 0.25],
            "expand_ratio": [1, 6],
            "num_repeat": [1, 2, 3],
            "output_filters_factor": [0.75, 1.25],
            "space_to_batch": [1, 2],
        },
        3: {
            "output_filters_factor": [0.75, 1, 1.25],
            "num_repeat_change": [-1, 0, 1],
            "space_to_batch": [1, 2],
            "skip": [True, False],
        },
        7: {"output_filters_factor": [0.5, 1], "activation": ["relu", "swish"]},
    },
    space_to_depth=["none", "conv 1-2"],
    when={"2.se_ratio": {"2.fused": [False]}},
)

SMALL = spaces.blocks(
    "efficientnet-x-b0",
    {2: {"kernel_size": [3, 5], "num_repeat": [1, 2]}, 3: {"se_ratio": [0, 0.5]}},
)


class Blocks:
    """A source that adds up blocks, each a number that its sizes decide.

    The numbers have no law, so that no table is right by luck.
    """

    name = "blocks"

    def __init__(self, tax=0.0):
        self.asked, self.closed, self._tax = 0, False, tax

    def many(self, variants):
        return [self(variant) for variant in variants]

    def __call__(self, variant):
        self.asked += 1
        specs = scaling.block_specs(variant)
        sizes = scaling.sizes_behind(variant.resolution, specs)
        moves = scaling.batch_domain_moves(specs)
        ends = scaling.stem_filters(variant), specs[-1].output_filters, sizes[-1]
        parts = [*zip(specs, sizes, moves, strict=False), ends]
        ms = sum(0.5 + random.Random(repr(part)).random() for part in parts)
        chance = random.Random(repr(specs)).random()
        return Estimate(ms * (1 + self._tax * chance), self.name)

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def source():
    return Blocks()


@pytest.fixture(scope="module")
def found(source):
    return costs.make(SPACE, source, checked=20)


def networks(number):
    rng = random.Random(77)
    return [costs.draw(SPACE, rng) for _ in range(number)]


def test_tables_are_the_source(found, source):
    """Some 40 numbers below 60, added and subtracted in float64 for each."""
    assert SPACE.count() == 82_944
    assert found.difference < 1e-12
    for network in networks(200):
        expected = source(SPACE.build(network)).ms
        assert found.ms(network) == pytest.approx(expected, rel=1e-12)


def test_few_questions_are_enough(found):
    entries = sum(table.ms.size for table in found.tables)
    assert found.questions < entries / 2
    assert found.checked == 20


def test_tables_have_what_matters_alone(found):
    names = [
        [SPACE.choices[place].name for place in table.places] for table in found.tables
    ]
    assert names[3] == ["3.output_filters_factor"]  # of stage 4: what enters
    assert names[4] == names[5] == []
    assert names[7] == ["7.output_filters_factor"]  # of the head
    assert {"1.output_filters", "2.fused", "3.space_to_batch"} < set(names[1])
    assert "3.skip" not in names[1]


def test_in_a_graph(found):
    """Eight numbers below 30 are added in float32: exact entries, rounded sums."""
    selection, ms = Selection(SPACE), Milliseconds(SPACE, found)
    of = tf.function(ms.of)
    for network in networks(40):
        exact = found.ms(network)
        assert float(of(selection.of(network))) == pytest.approx(
            exact, rel=16 * 2.0**-24
        )


def test_a_mixture_is_the_mean(found):
    """Of two choices of one stage, in equal parts."""
    selection, ms = Selection(SPACE), Milliseconds(SPACE, found)
    places = [place for place, one in enumerate(SPACE.choices) if one.stage == 7]
    network, mixed = list(networks(1)[0]), []
    for indices in np.ndindex(2, 2):
        for place, index in zip(places, indices, strict=True):
            network[place] = index
        mixed.append((selection.of(tuple(network)), found.ms(tuple(network))))
    vector = np.mean([one for one, _ in mixed], axis=0)
    mean = np.mean([one for _, one in mixed])
    assert float(ms.of(tf.constant(vector))) == pytest.approx(mean, rel=16 * 2.0**-24)


def test_a_choice_of_one_value_may_not_count():
    """The second stage is not fused where the first has large kernels, else it is."""
    space = spaces.blocks(
        "efficientnet-x-b0",
        {1: {"kernel_size": [3, 5]}, 2: {"fused": [False], "expand_ratio": [3, 6]}},
        when={"2.fused": {"1.kernel_size": [5]}},
    )
    source = Blocks()
    found = costs.make(space, source)
    for network in ((i, 0, j) for i in range(2) for j in range(2)):
        fused = [one.fused for one in scaling.block_specs(space.build(network))]
        assert fused[1] == (network[0] == 0)
        expected = source(space.build(network)).ms
        assert found.ms(network) == pytest.approx(expected, rel=1e-12)


def test_macs_are_additive():
    """A source that nobody made for this: multiply-accumulates of whole networks."""

    def latency(variant):
        return Estimate(complexity.total(variant).macs / 1e6, "macs")

    found = costs.make(SMALL, latency, checked=8)
    assert found.difference < 1e-12
    assert found.source == "function"


def test_a_source_that_is_no_sum_is_refused():
    with pytest.raises(UserError, match=r"not the sum of a network's parts"):
        costs.make(SMALL, Blocks(tax=0.1), checked=20)


def test_a_little_is_allowed(capsys):
    found = costs.make(SMALL, Blocks(tax=1e-4), checked=20)
    assert 1e-6 < found.difference < 0.01
    assert "the largest difference is" in capsys.readouterr().err


def test_questions_are_bounded():
    source = Blocks()
    with pytest.raises(UserError, match=r"needs [\d,]+ networks of blocks, more than"):
        costs.make(SMALL, source, most_questions=10)
    assert source.asked == 0


def test_networks_that_are_not_valid_are_refused():
    limited = spaces.blocks(
        "efficientnet-x-b0",
        {2: {"num_repeat": [1, 2, 3]}},
        constraints=[spaces.Limits(blocks=16)],
    )
    with pytest.raises(UserError, match=r"1 of 3 networks are not valid.*17 blocks"):
        costs.make(limited, Blocks())


def rare(first):
    """A network of 10,000 has a block more, of 38 x `first` that there are."""
    tenths = {"expand_ratio": list(range(1, 11))}
    when: dict[str, dict[str, list]] = {
        f"{n + 1}.expand_ratio": {f"{n}.expand_ratio": [10]} for n in (2, 3, 4)
    }
    return spaces.blocks(
        "efficientnet-x-b0",
        {
            1: {"kernel_size": first},
            **dict.fromkeys(range(2, 6), tenths),
            6: {"num_repeat_change": [1]},
        },
        when=when | {"6.num_repeat_change": {"5.expand_ratio": [10]}},
        constraints=[spaces.Limits(blocks=16)],
    )


@pytest.mark.long
def test_a_rare_network_that_is_not_valid_is_refused():
    """Where all can be looked at; of a larger space the docstring says it."""
    small = rare([3, 5])
    assert small.count() == 2 * 37
    with pytest.raises(UserError, match=r"2 of 74 networks are not valid.*17 blocks"):
        costs.refuse_invalid(small, random.Random(0))
    large = rare(list(range(1, 100, 2)))
    assert large.count() > 1000
    costs.refuse_invalid(large, random.Random(0))  # none was drawn
    invalid = dataclasses.replace(large, constraints=(spaces.Limits(blocks=15),))
    with pytest.raises(UserError, match="1,000 of 1,000 random networks are not valid"):
        costs.refuse_invalid(invalid, random.Random(0))


def test_a_source_without_an_answer_is_refused():
    def latency(variant):
        return Estimate(None, "mine", reason="no such device")

    with pytest.raises(UserError, match=r"mine has no latency of .*no such device"):
        costs.make(SMALL, latency)


def test_kept_in_a_file(tmp_path, capsys):
    small = spaces.blocks("efficientnet-x-b0", {2: {"kernel_size": [3, 5]}})
    path, source = str(tmp_path / "of" / "costs.json"), Blocks()
    made = costs.kept(path, small, source, checked=5)
    asked = source.asked
    read = costs.kept(path, small, source, checked=5)
    assert source.asked == asked
    assert (read.questions, read.difference) == (made.questions, made.difference)
    for one, other in zip(read.tables, made.tables, strict=True):
        assert one.places == other.places
        assert one.ms.tolist() == other.ms.tolist()
    with pytest.raises(UserError, match="is of another space"):
        costs.kept(path, SPACE, source)
    (tmp_path / "of" / "costs.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="is no table of latencies"):
        costs.kept(path, small, source)


def test_equations():
    """Three parts, of which the last two always come together."""
    equations = Equations()
    assert equations.add({0: 1, 1: 1, 2: 1})
    assert equations.add({0: 3, 1: 1, 2: 1})
    assert not equations.add({0: 7, 1: 2, 2: 2})
    assert len(equations) == 2
    found = equations.solve([5.0, 9.0])
    assert found.get(0, 0) == 2
    assert found.get(1, 0) + found.get(2, 0) == 3


def test_equations_of_many_parts():
    """Random networks of 30 parts: whatever is spanned is predicted."""
    rng, values = random.Random(0), [random.Random(i).random() for i in range(30)]
    equations, rows = Equations(), []
    for _ in range(100):
        row = {part: rng.randint(1, 3) for part in rng.sample(range(30), 6)}
        if equations.add(row):
            rows.append(row)
    assert len(rows) == len(equations) == 30
    total = [sum(count * values[part] for part, count in row.items()) for row in rows]
    found = equations.solve(total)
    assert [found[part] for part in range(30)] == pytest.approx(values, abs=1e-10)
    assert Fraction(1, 3) == Fraction(1) / 3
