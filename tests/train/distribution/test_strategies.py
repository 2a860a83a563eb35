import pytest

from common.errors import UserError
from train.distribution import strategies
from train.experiment import STRATEGIES


def test_the_names_of_the_setting_are_those_that_are_known():
    with pytest.raises(UserError) as refused:
        strategies.make_strategy("none")
    assert str(refused.value) == (
        "unknown strategy 'none'; Experiment.strategy is one of: "
        + ", ".join(STRATEGIES)
    )
