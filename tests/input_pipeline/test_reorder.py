import random

import pytest
import tensorflow as tf

from input_pipeline.reorder import reorder

WINDOW = 8


def unordered(numbers: list[int]) -> tf.data.Dataset:
    """Elements by number, whose content is the number."""
    return tf.data.Dataset.from_tensor_slices(tf.constant(numbers, tf.int64)).map(
        lambda n: (n, {"image": tf.fill([2, 3], tf.cast(n, tf.uint8)), "label": n})
    )


def recomputed(number: tf.Tensor) -> dict[str, tf.Tensor]:
    """What stands in for a missing one: told apart by its image."""
    return {"image": tf.fill([2, 3], tf.constant(255, tf.uint8)), "label": number}


def ordered(numbers: list[int], first: int = 10) -> list[tuple[int, bool]]:
    """(number, whether it arrived) in the order of coming out."""
    elements = reorder(unordered(numbers), recomputed, first=first, window=WINDOW)
    result = []
    for element in elements.as_numpy_iterator():
        number, image = int(element["label"]), element["image"]
        assert image.shape == (2, 3)
        assert (image == number).all() or (image == 255).all()
        result.append((number, bool(image[0, 0] == number)))
    return result


def shuffled(numbers: list[int], reach: int, seed: int) -> list[int]:
    """None is further than `reach` from where it was."""
    draw = random.Random(seed)
    return sorted(numbers, key=lambda n: n + draw.uniform(0, reach))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_within_the_window_is_put_right(seed):
    numbers = list(range(10, 60))
    arrived = shuffled(numbers, WINDOW - 1, seed)
    assert arrived != numbers
    assert ordered(arrived) == [(n, True) for n in numbers]


def test_what_stays_missing_is_recomputed_and_nothing_else():
    lost = {10, 17, 18, 30}
    arrived = [n for n in shuffled(list(range(10, 60)), 4, 0) if n not in lost]
    assert ordered(arrived) == [(n, n not in lost) for n in range(10, 60)]


def test_a_gap_longer_than_the_window():
    found = ordered([10, 11, *range(40, 50)])
    assert found == [(n, n < 12 or n >= 40) for n in range(10, 50)]


def test_doubles_late_ones_and_those_before_the_first_are_dropped():
    lost = [n for n in range(10, 40) if n != 15]
    arrived = [3, 9, *lost[:4], 12, 13, *lost[4:], 15, 20]
    assert ordered(arrived) == [(n, n != 15) for n in range(10, 40)]
