"""Row 4, by the compiler itself: minutes of CPU, unless it has done so before."""

import pytest

from tests.support.google import case_of, line_of


@pytest.mark.slow
def test_a_slice(google, job):
    case = case_of(google, job(("slice: v5e:4x8", "slice: v5e:2x2")))
    assert line_of(case, 4).startswith("ok       compiles and fits: ")
    assert case.preflight
    assert case.preflight["replicas"] == 4
    assert case.preflight["hours"] > 1
