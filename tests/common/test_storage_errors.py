"""What TensorFlow's client of a bucket says, as a line for people and a status."""

import errno
import os

import pytest
import tensorflow as tf

from common import cli, storage_errors
from common.errors import Restart, Status, UserError

BODY = '{"error": {"code": 503, "message": "try \\"later\\"", "errors": []}}'
GAVE_UP = "All 10 retry attempts failed. The last failure: "
HTTP = "Error executing an HTTP request: HTTP response code"
BUSY = f"{GAVE_UP}{HTTP} 503 with body '{BODY}'\n\t when reading metadata of gs://b/a c"
CURL = (
    "Error executing an HTTP request: libcurl code 6 meaning 'Could not resolve "
    "hostname', error details: Could not resolve host: www.googleapis.com\n"
    "\t when renaming gs://b/a to gs://b/c"
)
XML = (
    f"{HTTP} 403 with body '<?xml version='1.0'?><Error><Code>AccessDenied</Code>"
    "<Message>Access denied.</Message><Details>%s does not have storage.objects.get "
    "access.</Details></Error>'\n\t when reading gs://b/a"
)
ROLE = (
    "the bucket refuses this account: give it a role there, as "
    "roles/storage.objectUser on gs://b"
)
NODES = "{{function_node f}} Error in user-defined function passed to "
READ = (
    f"{NODES}{storage_errors.READING} transformation with iterator: Root::Map: %s\n\t "
    "[[{{node DatasetToSingleElement}}]] [Op:IteratorGetNext] name: "
)
STALE = "File contents are inconsistent for file: gs://b/a @ 0."


@pytest.mark.parametrize(
    ("kind", "text", "ending", "line"),
    [
        (
            "Aborted",
            BUSY,
            Restart,
            'gs://b/a c cannot be reached now: HTTP 503: try "',
        ),
        (
            "FailedPrecondition",
            CURL,
            Restart,
            "gs://b/a cannot be reached now: Could not resolve host: www.google",
        ),
        ("Internal", STALE, Restart, f"gs://b/a cannot be reached now: {STALE}"),
        (
            "PermissionDenied",
            XML % "me",
            UserError,
            "gs://b/a cannot be reached: HTTP 403: me does not have "
            f"storage.objects.get access.; {ROLE}",
        ),
        (
            "Aborted",
            READ % f"{GAVE_UP}{HTTP} 503 with body ''\n\t when reading gs://b/a",
            Restart,
            "cannot read gs://b/a now: HTTP 503",
        ),
        (
            "NotFound",
            READ % "/data/train-0; No such file or directory",
            UserError,
            "cannot read /data/train-0: No such file or directory; copy it there, "
            "or mend the name",
        ),
        (
            "Unknown",
            READ % "/data/train-0; Input/output error",
            Restart,
            "cannot read /data/train-0 now: Input/output error",
        ),
    ],
)
def test_what_comes_from_a_storage(kind, text, ending, line):
    found = storage_errors.from_storage(
        getattr(tf.errors, f"{kind}Error")(None, None, text)
    )
    assert type(found) is ending
    assert str(found).startswith(line)


def test_a_peer_that_is_gone_is_no_storage():
    for error in (
        tf.errors.AbortedError(None, None, "Collective ops is aborted by: gone"),
        tf.errors.UnavailableError(None, None, "failed to connect to all addresses"),
        OSError(errno.EIO, "Input/output error"),
        ValueError(BUSY),
    ):
        assert storage_errors.from_storage(error) is None


@pytest.mark.parametrize("is_there", [True, False])
def test_a_token_that_was_lost(is_there, monkeypatch):
    """A process that got none once asks for none again; another may get one."""
    monkeypatch.setattr(storage_errors, "_has_credentials", lambda: is_there)
    error = tf.errors.PermissionDeniedError(None, None, XML % "Anonymous caller")
    found = storage_errors.cannot_read("gs://b/a", error)
    said = "HTTP 403: Anonymous caller does not have storage.objects.get access."
    if is_there:
        assert type(found) is Restart
        assert str(found) == (
            f"cannot read gs://b/a now, the access token was lost: {said}"
        )
    else:
        assert type(found) is UserError
        assert str(found).startswith(
            f"cannot read gs://b/a: {said}; there are no credentials: gcloud auth "
        )


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "mend the permissions"),
        (errno.EIO, "look at the disk"),
        (errno.ENOTDIR, "mend that"),
    ],
)
def test_a_disk_that_refuses_to_be_written(number, mend):
    words = os.strerror(number)
    for error in (
        OSError(number, words, "/a/x"),
        tf.errors.OpError(
            None, None, f"/a/x.part-0; {words}", 7 if "perm" in mend else 2
        ),
    ):
        found = storage_errors.cannot_write("/a/x", error)
        assert (
            str(found) == f"cannot write /a/x: {words}; {mend} or name another folder"
        )


def test_a_command_that_meets_a_busy_bucket_anywhere(capsys):
    def work():
        raise tf.errors.AbortedError(None, None, BUSY)

    assert cli.run_command(work) == Status.RESTART
    assert capsys.readouterr().err == (
        'gs://b/a c cannot be reached now: HTTP 503: try "later"; the same command '
        "goes on\n"
    )


def test_what_is_to_be_sent_finds_no_room_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    text = "Could not append to the internal temporary file."
    error = tf.errors.InternalError(None, None, text)
    found = storage_errors.cannot_write("gs://b/a", error)
    assert type(found) is UserError
    assert str(found) == (
        f"cannot write gs://b/a: TensorFlow cannot put down in {tmp_path} what it "
        "sends; free some space there, or set TMPDIR to a folder on another disk"
    )


def test_an_error_whose_text_had_no_room_is_no_mistake():
    text = (
        "Error executing an HTTP request: libcurl code 23 meaning 'Failed writing "
        "received data to disk/application', error details: Received 110 response "
        "bytes for a 48-byte buffer\n\t when reading gs://b/a"
    )
    error = tf.errors.FailedPreconditionError(None, None, text)
    found = storage_errors.cannot_read("gs://b/a", error)
    assert type(found) is Restart
    assert str(found) == (
        "cannot read gs://b/a now: Received 110 response bytes for a 48-byte buffer"
    )


def test_a_certificate_that_is_not_trusted_is_not_waited_for():
    text = (
        f"{GAVE_UP}Error executing an HTTP request: libcurl code 60 meaning 'SSL peer "
        "certificate or SSH remote key was not OK', error details: (none)\n\t when "
        "reading metadata of gs://b/a"
    )
    error = tf.errors.AbortedError(None, None, text)
    found = storage_errors.cannot_read("gs://b/a", error)
    assert type(found) is UserError
    assert str(found) == (
        "cannot read gs://b/a: SSL peer certificate or SSH remote key was not OK; look "
        "at the certificates that this machine trusts (CURL_CA_BUNDLE) and at its clock"
    )
