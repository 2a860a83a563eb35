"""A folder has one writer: among threads of locks, processes and machines."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common import claims
from common.claims import Held, disk, holder
from common.errors import Restart, UserError
from tests.support.holding import holding_process


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 0.3)


def written(folder):
    return json.loads((folder / claims.NAME).read_text())


def as_another_machines(folder, **changes):
    """Make what lies there the claim of another machine's process."""
    other = {
        "token": "theirs",
        "purpose": "a training",
        "host": "far",
        "pid": 7,
        "boot": "another kernel's",
        "since": 0.0,
    }
    (folder / claims.NAME).write_text(json.dumps(other | changes))


def aged(folder, seconds):
    when = time.time() - seconds
    os.utime(folder / claims.NAME, (when, when))


def test_says_who_holds_a_folder_and_leaves_it_clean(tmp_path):
    with claims.hold(str(tmp_path), "a training") as claim:
        claim.check()
        found = written(tmp_path)
        assert (found["purpose"], found["pid"]) == ("a training", os.getpid())
        assert found["host"] == os.uname().nodename
        assert abs(found["since"] - time.time()) < 60
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_second_writer(tmp_path):
    with holding_process(str(tmp_path)) as process:
        with pytest.raises(Held) as refused, claims.hold(str(tmp_path), "another"):
            pass
        assert str(refused.value).startswith(
            f"{tmp_path} is held by a training: process {process.pid} on "
        )
        assert written(tmp_path)["pid"] == process.pid  # untouched
        assert process.communicate(input="")[0] == "left\n"
    with claims.hold(str(tmp_path), "another") as claim:
        claim.check()


def test_waits_for_one_that_is_just_ending(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "PATIENCE_SECONDS", 60.0)
    with holding_process(str(tmp_path)) as process:
        polled = threading.Event()
        lock = disk._lock

        def lock_and_tell(descriptor):
            is_locked = lock(descriptor)
            polled.set()
            return is_locked

        monkeypatch.setattr(disk, "_lock", lock_and_tell)
        threading.Thread(target=lambda: polled.wait() and process.kill()).start()
        with claims.hold(str(tmp_path), "the next") as claim:
            claim.check()


def test_the_dead_hold_nothing(tmp_path):
    with holding_process(str(tmp_path)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert written(tmp_path)["pid"] == process.pid  # nobody has tidied up
        began = time.monotonic()
        with claims.hold(str(tmp_path), "the next"):
            assert written(tmp_path)["purpose"] == "the next"
        assert time.monotonic() - began < holder.STALE_SECONDS / 3


def test_the_stopped_still_hold(tmp_path):
    with holding_process(str(tmp_path)) as process:
        process.send_signal(signal.SIGSTOP)
        aged(tmp_path, 1e6)
        with pytest.raises(Held), claims.hold(str(tmp_path), "another"):
            pass
        process.send_signal(signal.SIGCONT)
        assert process.communicate(input="")[0] == "left\n"


@pytest.mark.parametrize(
    "left", [b"", b"{", b'{"token": "', b'{"token": "7', b"\0" * 9]
)
def test_half_a_claim_holds_nothing(tmp_path, left):
    (tmp_path / claims.NAME).write_bytes(left)
    with claims.hold(str(tmp_path), "a training") as claim:
        claim.check()


@pytest.mark.parametrize("since", [1e30, "now", "123", None])
def test_a_claim_of_no_time_holds_nothing(tmp_path, since):
    as_another_machines(tmp_path, since=since)
    with claims.hold(str(tmp_path), "a training") as claim:
        claim.check()


@pytest.fixture
def gives_a_sign(tmp_path, monkeypatch):
    """The other machine's process does, once this one has said that it waits."""
    said = []

    def say(line):
        said.append(line)
        aged(tmp_path, 0.0)

    monkeypatch.setattr(holder, "say", say)
    return said


@pytest.mark.parametrize("more", [{}, {"more": "words of a later version"}])
def test_another_machine_that_gives_a_sign_lives(tmp_path, gives_a_sign, more):
    as_another_machines(tmp_path, **more)
    aged(tmp_path, 30.0)
    refused = pytest.raises(Held, match="process 7 on far")
    with refused, claims.hold(str(tmp_path), "the next"):
        pass
    assert len(gives_a_sign) == 1
    assert written(tmp_path)["token"] == "theirs"


def test_another_machine_that_is_silent_counts_as_dead(tmp_path, capsys):
    as_another_machines(tmp_path)
    aged(tmp_path, holder.STALE_SECONDS + 5)
    with claims.hold(str(tmp_path), "the next") as claim:
        claim.check()
    assert capsys.readouterr().err == ""


def test_another_machine_is_waited_for_until_it_counts_as_dead(
    tmp_path, capsys, monkeypatch
):
    as_another_machines(tmp_path)
    sign = (tmp_path / claims.NAME).stat().st_mtime
    ages = iter([30, 60, 89, 90])
    monkeypatch.setattr(disk, "_disk_time", lambda path: sign + next(ages))
    with claims.hold(str(tmp_path), "the next"):
        assert written(tmp_path)["purpose"] == "the next"
    (said,) = capsys.readouterr().err.splitlines()
    assert "is held by a training: process 7 on far" in said
    assert "its last sign of life is 30 s old" in said
    assert list(ages) == []


def test_a_lock_of_another_machine_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "STALE_SECONDS", 0.2)
    with holding_process(str(tmp_path)):
        as_another_machines(tmp_path)  # in place: its lock stays
        aged(tmp_path, 1e6)
        with pytest.raises(Held), claims.hold(str(tmp_path), "the next"):
            pass


def test_without_locks_the_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_lock", lambda descriptor: None)
    with claims.hold(str(tmp_path), "a training") as first:
        aged(tmp_path, holder.STALE_SECONDS + 5)  # suspended for so long
        with claims.hold(str(tmp_path), "the next") as second:
            second.check()
            with pytest.raises(Held, match="is held by the next: process"):
                first.check()
        with pytest.raises(Restart):  # it has left: what it wrote is to be read
            first.check()
    assert list(tmp_path.iterdir()) == []


def test_the_one_that_was_taken_for_dead_leaves_the_next_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_lock", lambda descriptor: None)
    with contextlib.ExitStack() as second:
        with claims.hold(str(tmp_path), "a training"):
            aged(tmp_path, holder.STALE_SECONDS + 5)
            second.enter_context(claims.hold(str(tmp_path), "the next"))
        assert written(tmp_path)["purpose"] == "the next"


def test_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "RENEW_SECONDS", 0.05)
    with claims.hold(str(tmp_path), "a training"):
        aged(tmp_path, 1e6)
        until = time.monotonic() + 60
        while time.time() - (tmp_path / claims.NAME).stat().st_mtime > 1e5:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_finds_a_claim_that_somebody_has_deleted(tmp_path):
    with claims.hold(str(tmp_path), "a training") as claim:
        (tmp_path / claims.NAME).unlink()
        told = "does not tell whose the folder is now: No such file or directory"
        with pytest.raises(Restart, match=told):
            claim.check()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_is_no_other_process(tmp_path, monkeypatch, number):
    with claims.hold(str(tmp_path), "a training") as claim:
        with monkeypatch.context() as patch:
            patch.setattr(disk.os, "open", failing(number))
            with pytest.raises(Restart, match=os.strerror(number)):
                claim.check()
        claim.check()
        monkeypatch.setattr(disk.os, "pread", failing(number))  # to the end
    assert (tmp_path / claims.NAME).exists()  # which is no other error's business


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_where_a_locked_file_can_be_read_by_its_owner_alone(tmp_path, monkeypatch):
    """As on SMB, where what is locked is locked for reading, too."""
    pread = os.pread

    def read(descriptor, *arguments):
        if descriptor != own[0]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return pread(descriptor, *arguments)

    lock, own = disk._lock, [-1]

    def lock_and_own(descriptor):
        is_locked = lock(descriptor)
        if is_locked:
            own[0] = descriptor
        return is_locked

    monkeypatch.setattr(disk.os, "pread", read)
    monkeypatch.setattr(disk, "_lock", lock_and_own)
    with claims.hold(str(tmp_path), "a training") as claim:
        claim.check()
        refused = pytest.raises(Held, match="is held by another process")
        with refused, claims.hold(str(tmp_path), "another"):
            pass
        claim.check()
    assert list(tmp_path.iterdir()) == []


def test_what_another_user_has_left_is_made_anew(tmp_path, monkeypatch):
    """In a folder of a group, where the file itself is that user's alone."""
    path = tmp_path / claims.NAME
    with holding_process(str(tmp_path)) as process:
        process.kill()
        process.wait()
    theirs = path.stat().st_ino
    open_as_ever = os.open

    def open_mine(name, flags, *mode):
        if flags & os.O_RDWR and path.exists() and path.stat().st_ino == theirs:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_as_ever(name, flags, *mode)

    monkeypatch.setattr(disk.os, "open", open_mine)
    with claims.hold(str(tmp_path), "the next") as claim:
        claim.check()
        assert written(tmp_path)["purpose"] == "the next"


def test_a_sign_from_the_future_is_waited_out(tmp_path, monkeypatch, capsys):
    """A clock was set back, or the folder comes from a machine that is ahead."""
    monkeypatch.setattr(holder, "STALE_SECONDS", 0.5)
    as_another_machines(tmp_path)
    aged(tmp_path, -1e6)
    with claims.hold(str(tmp_path), "the next") as claim:
        claim.check()
    assert "its last sign of life is 0 s old" in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"thesis", b"[1]", b'{"token": 1}', b"\xff\0"])
def test_what_is_no_claim_stays(tmp_path, text):
    (tmp_path / claims.NAME).write_bytes(text)
    told = r"/\.claim\.json is no file of this project: move it elsewhere, or"
    with pytest.raises(UserError, match=told), claims.hold(str(tmp_path), "a run"):
        pass
    assert (tmp_path / claims.NAME).read_bytes() == text


def test_a_file_with_another_name_stays(tmp_path):
    (tmp_path / "empty").touch()
    os.link(tmp_path / "empty", tmp_path / claims.NAME)
    refused = pytest.raises(UserError, match="is no file of this project")
    with refused, claims.hold(str(tmp_path), "a run"):
        pass
    assert (tmp_path / "empty").read_bytes() == b""


def test_follows_no_link(tmp_path):
    (tmp_path / "theirs").write_text("thesis")
    (tmp_path / claims.NAME).symlink_to("theirs")
    refused = pytest.raises(UserError, match=r"cannot write \S+/.claim\.json: Too many")
    with refused, claims.hold(str(tmp_path), "a training"):
        pass
    assert (tmp_path / "theirs").read_text() == "thesis"


def test_a_folder_that_is_not_there(tmp_path):
    refused = pytest.raises(UserError, match="No such file or directory; free some")
    with refused, claims.hold(f"{tmp_path}/none", "a training"):
        pass


def test_what_no_one_can_hold_is_not_held():
    with claims.hold("hdfs://host/run", "a training") as claim:
        claim.check()


RACE = """
import os, sys, time
from common import claims
from common.claims import holder
holder.PATIENCE_SECONDS = 0
folder, log = sys.argv[1:]
for _ in range(40):
    try:
        with claims.hold(folder, "a race"):
            me = os.open(folder + "/inside", os.O_CREAT | os.O_EXCL)  # else two are in
            os.close(me)
            os.unlink(folder + "/inside")
            with open(log, "a") as file:
                file.write("x")
    except claims.Held:
        pass
"""


def test_races(tmp_path):
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, folder, log]) for _ in range(4)
    ]
    assert [racer.wait() for racer in racers] == [0] * 4
    assert 0 < len(log.read_text()) <= 160
    assert list(folder.iterdir()) == []
