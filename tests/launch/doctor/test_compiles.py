"""Row 4, by the compiler itself: minutes of CPU, unless it has done so before."""

import dataclasses

import pytest

from tests.support.google import case_of, client, line_of


@pytest.mark.slow
def test_a_slice(google, job):
    case = case_of(google, job())
    assert line_of(case, 4).startswith("ok       compiles and fits: ")
    assert case.preflight
    assert case.preflight["replicas"] == 32
    assert case.preflight["hours"] > 1
    assert " h of training alone" in line_of(short(google, job, case), 25)


def short(google, job, case):
    """The same job with an hour for all."""
    case = dataclasses.replace(case, path=str(job(("hours: 48", "hours: 1"))))
    case.google = client(google)
    return case
