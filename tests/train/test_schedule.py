"""Learning rates against the values that the reference's own code computed."""

import pytest

from tests.train.golden import recipe
from train import schedule

BATCHES = (256, 1024, 2048, 4096)


def rates(make, batch: int, steps, train_steps: int = 218_949) -> list[float]:
    rate = make(
        global_batch_size=batch,
        steps_per_epoch=1_281_167 / batch,
        train_steps=train_steps,
    )
    return [float(rate(step)) for step in steps]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("make", "key"),
    [(schedule.exponential, "exponential"), (schedule.cosine, "cosine_total218949")],
)
def test_equals_reference(make, key, batch):
    golden = recipe()[f"lr_b{batch}"][key]
    got = rates(make, batch, map(int, golden))
    # The cosine's end is a difference of two numbers near one.
    assert got == pytest.approx(list(golden.values()), rel=1e-6, abs=1e-8)


def test_warmup_may_be_absent():
    rate = schedule.cosine(
        global_batch_size=256, steps_per_epoch=10, train_steps=100, warmup_epochs=0
    )
    assert float(rate(0)) == pytest.approx(0.016)
    assert float(rate(50)) == pytest.approx(0.008)
    assert float(rate(100)) == 0


def test_config_makes_the_same_schedule_again():
    rate = schedule.exponential(
        global_batch_size=2048, steps_per_epoch=625.5, train_steps=1
    )
    again = schedule.Exponential.from_config(rate.get_config())
    for step in (0, 17, 5000):
        assert float(again(step)) == float(rate(step))
