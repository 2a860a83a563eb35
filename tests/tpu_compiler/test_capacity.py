"""How many compilations a machine takes at once."""

import os

import pytest

from tpu_compiler import capacity, compilations_at_once

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Function: cores, GiB that are free, GiB of a limit -> compilations at once."""

    def at_once(cores, free=None, limit=None, name="memory.max"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        if free is not None:
            kib = int(free * 2**20)
            lines = f"MemTotal: 99 kB\nMemAvailable:   {kib} kB\nBuffers: 1 kB\n"
            (tmp_path / "meminfo").write_text(lines)
        if limit is not None:
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{limit}\n")
        return compilations_at_once(tmp_path, tmp_path / "cgroup")

    return at_once


def test_a_core_and_3_5_gib_each_beside_the_callers_2(machine):
    assert machine(2, 64) == 2
    assert machine(32, 64) == 17
    assert machine(16, 9) == 2
    assert machine(16, 8.9) == 1
    assert machine(16, 1) == 1, "what is asked for is tried"


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_a_limit(machine, name):
    assert machine(16, 64, 13 * GIB, name) == 3
    assert machine(16, 64, "max", name) == 16
    assert machine(16, 64, 2**63 - 4096, name) == 16, "none, in version 1"


def test_a_machine_that_does_not_tell(machine):
    assert machine(16) == capacity._UNKNOWN
    assert machine(1) == 1


def test_this_machine():
    assert compilations_at_once() >= 1
