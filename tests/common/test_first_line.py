import pytest
import tensorflow as tf

from common.errors import UserError, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such file\nat all"), "no such file"),
        (ValueError("\n  a = {{3}} [x]  \n"), "a = {{3}} [x]"),
        (StopIteration(), "StopIteration"),
        (tf.errors.DataLossError(None, None, "cut off\nhere"), "cut off"),
        (
            tf.errors.UnavailableError(
                None,
                None,
                "2 root error(s) found.\n  (0) UNAVAILABLE: Socket closed\n\t [[Add]]\n"
                "  (1) UNAVAILABLE: Socket closed\n0 successful operations.",
            ),
            "UNAVAILABLE: Socket closed",
        ),
    ],
)
def test_first_line(error, line):
    assert first_line(error) == line


def raised(function):
    try:
        function()
    except tf.errors.OpError as error:
        return error
    raise AssertionError


def test_names_of_nodes_are_left_out():
    missing = "/no/such/file; No such file or directory"
    eager = raised(lambda: tf.io.read_file("/no/such/file"))
    assert "{{function_node" in str(eager)
    assert "[Op:ReadFile]" in str(eager)
    assert first_line(eager) == missing
    graph = raised(tf.function(lambda: tf.io.read_file("/no/such/file")))
    assert "{{node ReadFile}}" in str(graph)
    assert not {"{", "["} & set(first_line(graph))
