import collections
import dataclasses
import functools
import itertools
import pickle
import random

import pytest

from common.errors import UserError
from models.scaling import block_specs
from models.variants import VARIANTS, StageSpec, Variant, change, get_variant
from search import axes, config, spaces
from search.networks.choices import ACTIVATIONS, Choice
from search.networks.space import Exhausted, Space
from search.spaces import Limits, digest

X_B0 = get_variant("efficientnet-x-b0")
# A network of two stages at 32 px: small enough for all of its space to be listed.
SMALL = Variant(
    *("small", 1.0, 1.0, 32, 0.2, 1),
    stages=(
        StageSpec(1, 3, 1, 1, 16, "relu"),
        StageSpec(2, 3, 2, 6, 24, "relu"),
    ),
)


def no_soft_activation(variant: Variant) -> str:
    soft = any(stage.activation == "swish" for stage in variant.stages)
    return "swish is not wanted" if soft else ""


def small(**more) -> Space:
    return spaces.blocks(
        SMALL,
        {
            1: {"fused": [False, True], "project": [True, False]},
            2: {"kernel_size": [3, 5, 7], "se_ratio": [0, 0.25]},
        },
        **more,
    )


def all_of(space: Space) -> list[tuple[int, ...]]:
    network, found = space.first(), []
    while network is not None:
        found.append(network)
        network = space.following(network)
    return found


def test_a_network_builds_what_its_values_say():
    space = spaces.blocks(
        X_B0,
        {
            1: {"num_repeat_change": [0, 1], "activation": ["relu", "gelu"]},
            2: {"fused": [True, False], "output_filters_factor": [0.5, 1, 1.25]},
            7: {"output_filters": [320, 256], "skip": [True, False]},
        },
        space_to_depth=["none", "conv 1-2", "reshuffle 2-3"],
        resolution=[224, 192],
        width_coefficient=[1.0, 1.1],
        network={"head_filters": [1280, 640]},
    )
    text = (
        "r192 w1.1 s2d-reshuffle-2-3 head640 / 1 n+1 gelu / 2 mbconv cx1.25 / "
        "7 c256 noskip"
    )
    built = space.build(space.decode(text))
    expected = change(
        dataclasses.replace(
            X_B0, resolution=192, width_coefficient=1.1, head_filters=640
        ),
        {
            1: {"num_repeat": 2, "activation": "gelu", "space_to_depth": "none"},
            2: {"fused": False, "output_filters": 30, "space_to_depth": "reshuffle"},
            3: {"space_to_depth": "leave"},
            7: {"output_filters": 256, "skip": False},
        },
    )
    name = f"efficientnet-x-b0-{digest(expected)[:8]}"
    assert built == dataclasses.replace(expected, name=name)
    assert space.values(space.decode(text))["2.output_filters_factor"] == 1.25


def test_all_networks_of_a_small_space():
    space = small()
    networks = all_of(space)
    # Stage 1 without fusing has no choice of a projection: 3 ways, and 6 of stage 2.
    assert len(networks) == len(set(networks)) == space.count() == 18
    texts = [space.encode(network) for network in networks]
    assert texts[:2] == ["1 mbconv / 2 k3 se0", "1 mbconv / 2 k3 se0.25"]
    assert texts[-1] == "1 fused noproject / 2 k7 se0.25"
    assert [space.decode(text) for text in texts] == networks
    assert len({space.digest(network) for network in networks}) == 18
    assert not any(map(space.why_not, networks))


@pytest.mark.parametrize("seed", range(3))
def test_count_is_what_a_walk_finds(seed):
    """Conditions on conditions, in several components, against enumeration."""
    rng = random.Random(seed)
    fields = ["fused", "kernel_size", "se_ratio", "skip", "activation"]
    values = [[True, False], [3, 5, 7], [0, 0.25], [True, False], ["relu", "swish"]]
    choices = []
    for i, (field, given) in enumerate(zip(fields, values, strict=True)):
        when = {}
        for j in range(i):
            if rng.random() < 0.4:
                when[f"1.{fields[j]}"] = rng.sample(values[j], 1)
        choices.append(Choice(f"1.{field}", tuple(given), when))
    choices.append(Choice("2.kernel_size", (3, 5)))
    rng.shuffle(choices)
    space = Space(SMALL, tuple(choices))
    networks = all_of(space)
    assert space.count() == len(networks) == len(set(networks))
    # By brute force: encodings of all combinations, what does not count left out.
    names = [choice.name for choice in choices]
    kept = set()
    for combination in itertools.product(*(choice.values for choice in choices)):
        found = dict(zip(names, combination, strict=True))
        for _ in names:  # until nothing changes any more
            for choice in choices:
                if any(found.get(n) not in ok for n, ok in choice.conditions):
                    found.pop(choice.name, None)
        kept.add(tuple(sorted(found.items())))
    assert {tuple(sorted(space.values(n).items())) for n in networks} == kept
    assert {space.decode(space.encode(network)) for network in networks} == set(
        networks
    )


def test_samples_are_uniform_and_from_the_generator_alone():
    space = small()
    drawn = collections.Counter(space.sample(random.Random(i)) for i in range(1200))
    assert set(drawn) == set(all_of(space))
    # An unfused network has 1/2 * 1/6, a fused one half of that: 100 and 50 expected.
    # Six standard deviations: 6 * sqrt(1200 * p * (1 - p)).
    for network, times in drawn.items():
        expected = 100 if not space.values(network)["1.fused"] else 50
        assert abs(times - expected) < 6 * expected**0.5
    assert space.sample(random.Random(5)) == small().sample(random.Random(5))


def test_a_mutation_changes_one_choice_and_the_network():
    space = spaces.paper()
    rng = random.Random(1)
    network = space.sample(rng)
    for _ in range(60):
        new = space.mutate(network, rng)
        before, after = space.values(network), space.values(new)
        assert [n for n in before if before[n] != after[n]] != []
        assert sum(before[name] != after[name] for name in before) == 1
        assert space.digest(new) != space.digest(network)
        network = new


def test_a_mutation_that_builds_the_same_is_none():
    """A skip where no shapes allow one, and a depth on the same plateau."""
    space = spaces.blocks(
        SMALL, {2: {"skip": [True, False]}}, depth_coefficient=[0.3, 0.4, 0.5, 1.0]
    )
    one_block = space.decode("d0.3 / 2 skip")
    assert {space.encode(new) for new in space.neighbours(one_block)} == {"d1 / 2 skip"}
    for seed in range(20):
        mutated = space.mutate(one_block, random.Random(seed))
        assert space.encode(mutated) == "d1 / 2 skip"
    assert len({space.digest(network) for network in all_of(space)}) == 3
    # Three depths make one block: one neighbour.
    assert [space.encode(n) for n in space.neighbours(space.decode("d1 / 2 skip"))] == [
        *("d0.3 / 2 skip", "d1 / 2 noskip")
    ]


def test_what_counts_now_is_drawn():
    space = small()
    unfused = space.decode("1 mbconv / 2 k3 se0")
    fused = collections.Counter(
        space.encode(space.mutate(unfused, random.Random(i)))[:10] for i in range(400)
    )
    # A third of the mutations fuses stage 1; half of these drop the projection.
    # Six standard deviations of 400 draws.
    assert abs(fused["1 fused pr"] - 67) < 45
    assert abs(fused["1 fused no"] - 67) < 45
    back = space.decode("1 fused noproject / 2 k3 se0")
    # What does not count any more is forgotten: equal networks are equal tuples.
    assert unfused in space.neighbours(back)
    assert unfused in {space.mutate(back, random.Random(i)) for i in range(30)}


def test_neighbours_are_all_of_them():
    space = small()
    network = space.decode("1 fused project / 2 k5 se0")
    assert {space.encode(n) for n in space.neighbours(network)} == {
        "1 mbconv / 2 k5 se0",
        "1 fused noproject / 2 k5 se0",
        "1 fused project / 2 k3 se0",
        "1 fused project / 2 k7 se0",
        "1 fused project / 2 k5 se0.25",
    }


def test_no_neighbour():
    space = spaces.blocks(SMALL, resolution=[32])
    assert space.count() == 1
    with pytest.raises(Exhausted, match="no valid network is next to"):
        space.mutate(space.first(), random.Random(0))


def test_invalid_networks_are_neither_drawn_nor_built():
    space = spaces.blocks(
        X_B0,
        {6: {"space_to_batch": [1, 2, 3]}, 1: {"space_to_depth": ["conv", "none"]}},
    )
    assert {space.encode(space.sample(random.Random(i))) for i in range(50)} == {
        "1 s2d-conv / 6 b1"
    }
    bad = space.decode("1 s2d-conv / 6 b2")
    assert "does not divide its 14x14 input" in space.why_not(bad)
    assert space.digest_or_none(bad) is None
    with pytest.raises(
        UserError, match="1 s2d-conv / 6 b2: block 11: space_to_batch 2"
    ):
        space.build(bad)
    nothing_to_leave = space.decode("1 s2d-none / 6 b1")
    assert "that no block before it opened" in space.why_not(nothing_to_leave)


def test_a_section_has_to_be_closed():
    space = spaces.blocks(
        get_variant("efficientnet-b0"), {3: {"space_to_depth": ["none", "conv"]}}
    )
    opened = space.decode("3 s2d-conv")
    assert space.why_not(opened) == "stage 3 opens a section that no stage leaves"
    closed = spaces.blocks("efficientnet-b0", space_to_depth=["conv 3-4"])
    assert not closed.why_not(closed.first())


def test_nothing_valid():
    space = spaces.blocks(X_B0, resolution=[10, 20])
    with pytest.raises(
        UserError, match=r"all invalid; the last: resolution \d0 is too"
    ):
        space.sample(random.Random(0))
    assert space.neighbours(space.first()) == []


def test_a_copy_in_another_process():
    space = small()
    space.digest(space.first())
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space
    assert copy.fingerprint == space.fingerprint
    assert copy.encode(copy.first()) == space.encode(space.first())


def test_limits():
    limits = [Limits(blocks=20), Limits(gmacs=0.9), Limits(million_params=7.6)]
    depth, width = [1.0, 1.1], [1.0, 1.1]
    texts = []
    for limit in limits:
        space = spaces.scaling(
            *(X_B0,),
            width_coefficient=width,
            depth_coefficient=depth,
            resolution=[208, 224],
            constraints=[limit],
        )
        valid = [n for n in all_of(space) if not space.why_not(n)]
        texts.append([space.encode(network) for network in valid])
    assert texts[0] == [f"r{r} w{w} d1" for r in (208, 224) for w in ("1", "1.1")]
    assert texts[1] == ["r208 w1 d1"]  # 0.92 GMACs at 224 px
    assert texts[2] == ["r208 w1 d1", "r224 w1 d1"]  # 7.58 M
    with pytest.raises(
        UserError, match=r"Limits.gmacs = -1: it has to be None or a number above 0"
    ):
        Limits(gmacs=-1)


def test_the_paper_s_space_is_a_reconstruction():
    space = spaces.paper()
    assert space.name == "paper-reconstruction"
    assert space.count() == 4 * (2**5 * 3 * 2 * 2) * (2**5 * 3**3 * 2) ** 4 * (
        2**5 * 3**3
    ) * (2**5 * 3 * 2 * 3)
    texts = [space.encode(space.sample(random.Random(i))) for i in range(50)]
    assert max(map(len, texts)) <= 400
    assert [space.encode(space.decode(text)) for text in texts] == texts


def test_encodings_do_not_depend_on_the_order_of_a_dict():
    stages = {2: {"kernel_size": [3, 5], "fused": [True, False]}, 1: {"skip": [True]}}
    turned = {
        number: dict(reversed(fields.items()))
        for number, fields in reversed(stages.items())
    }
    one, other = spaces.blocks(SMALL, stages), spaces.blocks(SMALL, turned)
    assert one == other
    assert one.fingerprint == other.fingerprint
    assert one.encode(one.first()) == "1 skip / 2 fused k3"
    later = Choice("2.fused", (True, False), {"2.kernel_size": (3,)})
    space = Space(SMALL, (later, Choice("2.kernel_size", (3, 5))))
    assert [space.encode(network) for network in all_of(space)] == [
        *("2 fused k3", "2 mbconv k3", "2 k5")
    ]


def test_a_fingerprint_is_of_everything():
    space = small()
    others = [
        small(resolution=[32, 64]),
        small(constraints=[Limits(blocks=9)]),
        small(when={"2.se_ratio": {"2.kernel_size": [3]}}),
        spaces.blocks(SMALL, {2: {"kernel_size": [3, 5]}}),
        dataclasses.replace(space, base=dataclasses.replace(SMALL, dropout_rate=0.3)),
    ]
    assert len({one.fingerprint for one in [space, *others]}) == 6
    assert small().fingerprint == space.fingerprint
    # A function's address is another one in every process.
    rows = small(constraints=[no_soft_activation]).as_json()
    assert rows["constraints"] == [f"{__name__}.no_soft_activation"]


def test_a_constraint_of_one_s_own():
    space = spaces.blocks(
        SMALL,
        {2: {"activation": ["relu", "swish"]}},
        constraints=[no_soft_activation],
    )
    assert space.why_not(space.decode("2 swish")) == "swish is not wanted"
    drawn = {space.encode(space.sample(random.Random(i))) for i in range(20)}
    assert drawn == {"2 relu"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 fused / 2 k3 se0", r"says nothing of 1.project: one of project, noproject"),
        ("1 mbconv project / 2 k3 se0", "1.project does not count here; leave out"),
        (
            "1 mbconv / 2 k4 se0",
            r"'k4' is none of stage 2's; nearest: k3, k5, k7, se0,",
        ),
        (
            "1 mbconv / 2 k3 se0.3",
            r"'se0.3' is none of stage 2's; nearest: se0, se0.25",
        ),
        ("1 mbcon / 2 k3 se0", "nearest: mbconv"),
        ("1 mbconv / 2 k3 k5 se0", "says 2.kernel_size twice"),
        ("1 mbconv / 9 k3 se0", "'k3' is none of stage 9's; no choice is"),
        ("r32 / 1 mbconv / 2 k3 se0", "'r32' is none of the network's; no choice is"),
        ("", "says nothing of 1.fused"),
        (None, "None: 'None' is none of the network's; no choice is"),
    ],
)
def test_what_is_no_network(text, says):
    with pytest.raises(UserError, match=says):
        small().decode(text)


def test_tokens_in_another_order():
    space = small()
    assert space.decode("2 se0 k3/1 mbconv") == space.decode("1 mbconv / 2 k3 se0")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"base": "efficientnet-x-c0"}, "unknown variant 'efficientnet-x-c0': did you"),
        ({"base": 3}, "base has to be a name"),
        ({"stages": {}}, "blocks: a space needs a choice or more"),
        ({"stages": {8: {"skip": [True]}}}, "8.skip: .* no stage 8, only 1 to 7"),
        ({"stages": {"a": {}}}, "stages: 'a' is no number of a stage from 1"),
        ({"stages": {0: {}}}, "stages: 0 is no number of a stage from 1"),
        ({"stages": {2: [3]}}, r"stages: 2: \[3\] is no dict of values by field"),
        (
            {"stages": {2: {"kernel": [3]}}},
            "2.kernel: a stage has no choice of 'kernel'; did you mean kernel_size",
        ),
        (
            {"stages": {2: {"kernel_size": []}}},
            "2.kernel_size: the list of values is em",
        ),
        ({"stages": {2: {"kernel_size": 3}}}, r"2.kernel_size: 3 is no list .* \[3\]"),
        (
            {"stages": {2: {"kernel_size": [3, 3.0]}}},
            "2.kernel_size: 3.0 is there twice",
        ),
        (
            {"stages": {2: {"kernel_size": [3, 2.5]}}},
            "2.kernel_size: 2.5: stage 2: kernel_size = 2.5: it has to be a whole",
        ),
        (
            {"stages": {2: {"se_ratio": [float("nan")]}}},
            "2.se_ratio: nan: stage 2: se_",
        ),
        (
            {"stages": {2: {"fused": ["yes"]}}},
            "2.fused: 'yes': .* it has to be True or False",
        ),
        ({"stages": {2: {"activation": ["rely"]}}}, "'rely': unknown .*; known: relu"),
        (
            {"stages": {2: {"activation": [[]]}}},
            r"2.activation: \[\]: unknown activation",
        ),
        (
            {"stages": {1: {"num_repeat_change": [-1]}}},
            "1.num_repeat_change: -1: stage 1: num_repeat = 0: it has to be a whole",
        ),
        (
            {"stages": {1: {"num_repeat_change": [0.5]}}},
            "a change has to be a whole num",
        ),
        (
            {"stages": {1: {"output_filters_factor": [-1]}}},
            "has to be a number above 0",
        ),
        (
            {"stages": {1: {"output_filters_factor": [1], "output_filters": [8]}}},
            "1.output_filters and 1.output_filters_factor set the same field",
        ),
        (
            {
                "stages": {2: {"space_to_depth": ["none"]}},
                "space_to_depth": ["none"],
            },
            "space_to_depth and 2.space_to_depth set the same field",
        ),
        ({"space_to_depth": ["conv 2-1"]}, "a section closes in a later stage"),
        ({"space_to_depth": ["conv 2-8"]}, "a section closes in a later stage"),
        ({"space_to_depth": [[]]}, r"space_to_depth: \[\]: it has to be \"none\", "),
        ({"space_to_depth": "none"}, r"'none' is no list of values; write \['none'\]"),
        (
            {"resolution": [224, 0]},
            "resolution: 0: resolution = 0: it has to be a whole",
        ),
        ({"resolution": [2**16 + 1]}, "resolution: 65537: more than 65,536 is a slip"),
        ({"depth_coefficient": [1e9]}, "1000000000.0: more than 1,000 is a slip"),
        ({"width_coefficient": [1, 1e308]}, r"1e\+308: more than 65,536 is a slip"),
        ({"width_coefficient": [float("inf")]}, "inf: more than 65,536 is a slip"),
        (
            {"resolution": [[224]]},
            r"resolution: \[224\]: resolution = \[224\]: it has to be",
        ),
        (
            {
                "resolution": [224],
                "constraints": [
                    no_soft_activation,
                    functools.partial(no_soft_activation),
                ],
            },
            "which says not what it demands",
        ),
        (
            {"network": {"stem_filter": [8]}},
            "stem_filter: a network has no choice of 'stem_filter'; did you",
        ),
        (
            {"resolution": [224], "when": {"2.skip": {"resolution": [224]}}},
            "when: there is no choice '2.skip' in this space",
        ),
        (
            {"resolution": [224], "when": {"resolution": {"2.skip": [True]}}},
            "resolution, when 2.skip: there is no such choice; nearest: resolution",
        ),
        (
            {"resolution": [224], "when": {"resolution": {"resolution": [8]}}},
            "resolution, when resolution: 8 is none of its values 224",
        ),
        (
            {"resolution": [224], "when": {"resolution": {"resolution": [224]}}},
            "resolution: each counts only when another does",
        ),
        (
            {"stages": {2: {"project": [True, False]}}},
            "2.project: False needs expand_ratio = 1, which stage 2 never has",
        ),
        (
            {"stages": {1: {"project": [True, False]}}},
            "1.project: False needs fused = True, which stage 1 never has",
        ),
    ],
)
def test_mistakes_say_where(arguments, says):
    with pytest.raises(UserError, match=says):
        spaces.blocks(**{"base": X_B0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"stages": [1]}, "spaces.blocks.stages = [1]: it has to be a dict, as {2:"),
        ({"network": [3]}, "spaces.blocks.network = [3]: it has to be a dict, as {'s"),
        ({"when": [3]}, "spaces.blocks.when = [3]: it has to be a dict, as {'2.se"),
        (
            {"resolution": [192], "when": {"resolution": 3}},
            "spaces.blocks.when: resolution: 3 is no dict of values by choice",
        ),
        ({"constraints": 3}, "constraints = 3: it has to be a list, as [@spaces"),
        ({"constraints": [3]}, "constraints = [3]: 3 cannot be called"),
        (
            {"constraints": [spaces.Limits]},
            "constraints: @Limits: the () behind it is missing",
        ),
    ],
)
def test_what_has_to_be_a_dict_or_a_list(arguments, says):
    with pytest.raises(UserError) as error:
        spaces.blocks(**{"base": X_B0, **arguments})
    assert str(error.value).startswith(says)


def test_a_projection_is_left_out_only_where_it_may_be():
    space = spaces.blocks(
        "efficientnetv2-s",
        {1: {"expand_ratio": [1, 4], "fused": [True, False], "project": [False, True]}},
    )
    found = [space.encode(network) for network in all_of(space)]
    assert found == [
        "1 fused e1 noproject",
        "1 fused e1 project",
        "1 fused e4",
        "1 mbconv e1",
        "1 mbconv e4",
    ]
    # The base's own stage 1 has none: elsewhere it has to come back.
    built = [space.build(network).stages[0].project for network in all_of(space)]
    assert built == [False, True, True, True, True]


def test_scaling_has_every_number_of_blocks_once():
    space = spaces.scaling(X_B0)
    assert space.count() == len(axes.depths(X_B0)) * 21 * 56
    assert space.encode(space.first()) == "r160 w1 d1"


def test_equal_networks_have_equal_digests():
    row = get_variant("efficientnet-x-b1")
    base = digest(row)
    depth = dataclasses.replace(row, depth_coefficient=1.2, name="other")
    width = dataclasses.replace(row, width_coefficient=1.0001)
    silu = change(row, {2: {"activation": "silu"}, 3: {"activation": "silu"}})
    skip = change(row, {1: {"skip": False}}, {0: {"skip": False}})
    number = dataclasses.replace(row, mean_rgb=[*row.mean_rgb])
    assert {digest(one) for one in (depth, width, silu, number)} == {base}
    # Stage 1 of x-b1 has two blocks: only the second one can add its inputs.
    assert digest(skip) != base
    first = change(row, blocks={0: {"skip": False}})
    assert digest(first) == base


def test_blocks_count_however_they_are_divided_into_stages():
    one = SMALL.stages[1]
    divided = dataclasses.replace(
        SMALL,
        stages=(
            SMALL.stages[0],
            dataclasses.replace(one, num_repeat=1),
            dataclasses.replace(one, num_repeat=1, strides=1),
        ),
    )
    assert block_specs(divided) == block_specs(SMALL)
    assert digest(divided) == digest(SMALL)


# Of each field of a variant and of a stage, a value that makes another network.
OTHERS = {
    "width_coefficient": 1.5,
    "depth_coefficient": 1.5,
    "resolution": 64,
    "dropout_rate": 0.3,
    "se_coefficient": 2,
    "stem_filters": 64,
    "head_filters": 64,
    "activation": "swish",
    "batch_norm_epsilon": 1e-5,
    "batch_norm_momentum": 0.9,
    "mean_rgb": (1.0, 2.0, 3.0),
    "std_rgb": (1.0, 2.0, 3.0),
    "dialect": "timm",
    "block_changes": ((1, (("kernel_size", 5),)),),
}
OF_A_STAGE = {
    "num_repeat": 3,
    "kernel_size": 5,
    "strides": 1,
    "expand_ratio": 4,
    "output_filters": 32,
    "activation": "swish",
    "fused": True,
    "se_ratio": 0.5,
    "space_to_batch": 2,
    "skip": False,
}


def test_a_digest_is_of_everything_that_computes():
    """Every field changes it: one that is added has to be thought of here."""
    variants = {"": SMALL}
    for field, value in OTHERS.items():
        variants[field] = dataclasses.replace(SMALL, **{field: value})
    for field, value in OF_A_STAGE.items():
        variants[f"2.{field}"] = change(SMALL, {2: {field: value}})
    fused = change(SMALL, {1: {"fused": True}})
    variants["1.fused"] = fused
    variants["1.project"] = change(fused, {1: {"project": False}})
    for form in ("conv", "reshuffle"):
        variants[f"1.space_to_depth {form}"] = change(
            SMALL, {1: {"space_to_depth": form}, 2: {"space_to_depth": "leave"}}
        )
    found = {name: digest(variant) for name, variant in variants.items()}
    assert len(set(found.values())) == len(found)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in found.values())
    fields = {field.name for field in dataclasses.fields(Variant)}
    # Rules of rounding; the first two have no effect at width and depth 1.
    assert fields - OTHERS.keys() == {"name", "stages", "scale_ends", "max_width_loss"}
    wide = dataclasses.replace(SMALL, width_coefficient=1.2)
    kept = dataclasses.replace(wide, scale_ends=False)
    assert digest(kept) != digest(wide)
    rounded = dataclasses.replace(wide, max_width_loss=1.0)
    assert (digest(rounded) == digest(wide)) == (
        block_specs(rounded) == block_specs(wide)
    )
    of_a_stage = {field.name for field in dataclasses.fields(StageSpec)}
    assert of_a_stage - OF_A_STAGE.keys() == {"space_to_depth", "project"}


def test_digests_of_the_table():
    """Rows that are one network but for the name, and no others, share a digest."""
    by_digest = collections.defaultdict(list)
    for name, variant in VARIANTS.items():
        by_digest[digest(variant)].append(name)
    shared = sorted(names for names in by_digest.values() if len(names) > 1)
    assert [
        "efficientnet-x-b0",
        "efficientnet-x-tpu-b0",
        "efficientnet-x-gpu-b0",
    ] in shared
    for names in shared:
        rows = [dataclasses.asdict(VARIANTS[name]) for name in names]
        built = [block_specs(VARIANTS[name]) for name in names]
        assert all(one == built[0] for one in built)
        assert {row["resolution"] for row in rows} == {rows[0]["resolution"]}


def test_a_digest_stays_what_it_is():
    """Searches on a disk are compared by it."""
    assert digest(X_B0) == "98f90f06bfe58281"


def test_a_space_of_one_s_own_from_gin(tmp_path):
    path = tmp_path / "space.gin"
    path.write_text(
        """
from __gin__ import dynamic_registration
from search import spaces
from search import samplers
from tests.search import test_spaces

spaces.Limits.blocks = 20
spaces.blocks:
  base = 'efficientnet-x-b0'
  stages = {
      'all': {'activation': ['relu', 'swish']},
      2: {'fused': [True, False], 'se_ratio': [0, 0.25], 'activation': ['relu']},
  }
  when = {'2.se_ratio': {'2.fused': [False]}}
  space_to_depth = ['none', 'conv 1-2']
  resolution = [192, 224]
  constraints = [@spaces.Limits()]
samplers.AgeingEvolution.population = 50
test_spaces.Settings:
  space = @spaces.blocks()
  sampler = @samplers.AgeingEvolution
"""
    )
    settings = config.read(Settings, [str(path)], [])
    space = settings.space
    assert space.count() == 2 * 2 * 2**6 * 3
    assert space.constraints == (Limits(blocks=20),)
    text = space.encode(space.first())
    assert text == (
        "r192 s2d-none / 1 relu / 2 fused relu / 3 relu / 4 relu / 5 relu / 6 relu / "
        "7 relu"
    )
    sampler = settings.sampler(seed=3)
    assert (sampler.seed, sampler.population, sampler.sample) == (3, 50, 25)


@dataclasses.dataclass(frozen=True)
class Settings:
    space: Space
    sampler: type


@pytest.mark.slow
def test_activations_are_keras_own():
    from keras import activations

    from models.efficientnet_x import check_activation
    from models.errors import ModelError

    def known(name: str) -> bool:
        try:
            check_activation(name)
        except ModelError:
            return False
        return True

    assert set(ACTIVATIONS) == {name for name in vars(activations) if known(name)}
    assert activations.swish is activations.silu
    assert activations.hard_swish is activations.hard_silu
