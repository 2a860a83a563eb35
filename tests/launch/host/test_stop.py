"""When SIGTERM is heard."""

import signal

import pytest

from launch.host.stop import Stop, Stopped


@pytest.fixture
def stop():
    handler = signal.getsignal(signal.SIGTERM)
    yield Stop()
    signal.signal(signal.SIGTERM, handler)


def test_it_ends_what_has_nothing_to_save(stop):
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("is_before", [True, False])
def test_it_is_told_or_ends_a_block(stop, is_before):
    told, done = [], []
    stop.defer(lambda: told.append(True))
    if is_before:
        signal.raise_signal(signal.SIGTERM)

    def block():
        with stop.at_once():
            done.append(True)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        block()
    assert (told, done) == (([True], []) if is_before else ([], [True]))
    assert stop.requested
    signal.raise_signal(signal.SIGTERM)
    assert told[-1:] == [True]
