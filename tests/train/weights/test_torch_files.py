"""torch's files without torch: what it has written is read, all else is refused."""

import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.support import torch_files as writer
from tests.support.golden import DATA
from tests.support.torch_files import Call, Name, Raw, Reference, storage, tensor
from train.weights import pickles, torch_files
from train.weights.pickles import DamagedError, RefusedError, Skipped

RECORDED = DATA / "train/torch_files"  # by tests/peers/make_torch_files.py
FORMS = {"zip": writer.zipped, "legacy": writer.legacy}
FOUR = np.arange(4, dtype=np.float32)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Whatever a pickle might call would be seen."""

    def run(*arguments):
        raise AssertionError(f"it was run: {arguments}")

    monkeypatch.setattr(os, "system", run)
    monkeypatch.setattr(pickle, "Unpickler", run)
    monkeypatch.setattr(pickle, "loads", run)


@pytest.fixture(scope="module")
def values():
    with np.load(RECORDED / "values.npz") as arrays:
        return dict(arrays)


def recorded(name):
    return (RECORDED / name).read_bytes()


# What torch has written


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_all_types_shapes_and_strides(form, values):
    found = torch_files.read(recorded(f"numbers-{form}.pth"))
    assert len(found.tensors) == 18
    assert found.skipped == found.within == ()
    for name in found.tensors:
        value = found.read(name)
        assert value.dtype == values[name].dtype
        np.testing.assert_array_equal(value, values[name], strict=True)
    assert found.read("bfloat16").dtype == np.float32
    assert found.read("empty").shape == (3, 0)
    assert "torch" not in sys.modules


@pytest.mark.parametrize("form", FORMS)
def test_a_training_checkpoint(form, values):
    """The averages, or the raw weights; numpy's scalars and the rest are passed by."""
    content = recorded(f"checkpoint-{form}.pth")
    found = torch_files.read(content)
    assert found.within == ("state_dict_ema",)
    assert found.skipped[:4] == ("epoch", "arch", "state_dict", "optimizer")
    assert len(found.skipped) == 15
    assert [*found.tensors] == ["module.weight", "module.bias"]
    raw = torch_files.read(content, averaged=False)
    assert raw.within == ("state_dict",)
    for state in (found, raw):
        for name in state.tensors:
            np.testing.assert_array_equal(state.read(name), values[name], strict=True)


@pytest.mark.parametrize(
    "outer",
    [
        ("state_dict",),
        ("model",),
        ("model", "state_dict"),
        ("state", "model_state_dict")[1:],
        ("model_ema", "module"),
    ],
)
def test_wrapped_weights(outer):
    value, data = writer.tensors({"w": FOUR})
    for key in reversed(outer):
        value = {"epoch": 1, key: value, "best": None}
    found = torch_files.read(writer.zipped(value, data))
    assert found.within == outer
    np.testing.assert_array_equal(found.read("w"), FOUR)


def test_views_share_their_numbers():
    one = storage("0", count=6)
    views = {
        "all": tensor(one, 0, (2, 3), (3, 1)),
        "column": tensor(one, 1, (2,), (3,)),
        "none": tensor(one, 6, (0, 9), (1, 1)),
    }
    data = {"0": np.arange(6, dtype=np.float32).tobytes()}
    for form in FORMS.values():
        found = torch_files.read(form(views, data))
        assert found.read("all").tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found.read("column").tolist() == [1, 4]
        assert found.read("none").shape == (0, 9)


def test_no_numbers_need_no_member():
    value = {"w": tensor(storage("0", count=0), 0, (0, 3), (3, 1))}
    assert torch_files.read(writer.zipped(value, {})).read("w").shape == (0, 3)


def test_text_of_python_2():
    name = b"U\x01w"  # SHORT_BINSTRING
    value, data = writer.tensors({"x": FOUR})
    content = writer.dumps({"PLACE": value["x"]})
    content = content.replace(b"X\x05\0\0\0PLACE", name)
    np.testing.assert_array_equal(
        torch_files.read(writer.zipped(content, data)).read("w"), FOUR
    )


# What others have written


def refused(content, kind=RefusedError):
    with pytest.raises(RefusedError) as error:
        torch_files.read(content)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert isinstance(error.value, kind)
    return str(error.value)


def beside(evil):
    """A file whose weights are sound, with something beside them."""
    value, data = writer.tensors({"w": FOUR})
    return writer.zipped({"state_dict": value, "evil": evil}, data)


SYSTEM = os.system  # the fixture sets another


class Runs:
    def __reduce__(self):
        return SYSTEM, ("true",)


NAMES = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("__builtin__", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("importlib", "import_module"),
    ("pickle", "loads"),
    ("torch", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.hub", "load"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch", "ComplexFloatStorage"),
    ("torch", "QInt8Storage"),
    ("numpy.testing._private.utils", "runstring"),
    ("timm.models.efficientnet", "EfficientNet"),
    ("collections", "OrderedDict.__class__"),
    ("collections.OrderedDict", "update"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("torch._utils._rebuild_tensor_v2", "__globals__"),
    ("torch", "Storage"),
    ("", ""),
    ("os\tx", "system"),
]


@pytest.mark.parametrize(("module", "name"), NAMES)
@pytest.mark.parametrize("how", ["called", "named", "on the stack"])
def test_names_that_are_no_part_of_weights(module, name, how):
    evil = {
        "called": Call(Name(module, name), ("true",)),
        "named": Name(module, name),
        "on the stack": Raw(
            b"X" + struct.pack("<i", len(module)) + module.encode()
            + b"X" + struct.pack("<i", len(name)) + name.encode() + b"\x93"
        ),
    }[how]  # fmt: skip
    said = refused(beside(evil))
    assert said == f"{module}.{name}, which is not what weights are made of"


def test_a_pickle_of_pythons_own():
    content = pickle.dumps({"state_dict": {"w": Runs()}}, 2)
    said = "posix.system, which is not what weights are made of"
    assert refused(writer.zipped(content, {})) == said
    for protocol in range(6):
        said = refused(pickle.dumps({"w": Runs()}, protocol))
        assert said == "posix.system, which is not what weights are made of"


@pytest.mark.parametrize(
    ("opcodes", "named"),
    [
        (b"(ios\nsystem\n", "INST"),
        (b"(cos\nsystem\nX\x04\0\0\0trueo", "os.system"),
        (b"(X\x04\0\0\0trueo", "OBJ"),
        (b"cos\nsystem\n)\x81", "os.system"),
        (b"cos\nsystem\n)}\x92", "os.system"),
        (b"\x82\x01", "EXT1"),
        (b"\x83\x01\x00", "EXT2"),
        (b"\x84\x01\x00\x00\x00", "EXT4"),
        (b"P0\n", "PERSID"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\x98", "READONLY_BUFFER"),
    ],
)
def test_opcodes_that_torch_does_not_write(opcodes, named):
    assert named in refused(beside(Raw(opcodes)))


@pytest.mark.parametrize(
    ("evil", "said"),
    [
        (Call(storage("0"), ()), "a call of "),
        (Call(Name("torch", "FloatStorage"), (9,)), "a call of Float"),
        (Call("os.system", ("true",)), "a call of str"),
        (Call(Name("collections", "OrderedDict"), "ab"), "a call without arguments"),
        (Raw(b"}}b0]}b"), "a state for what has none"),
        (Raw(b"ctorch\nFloatStorage\n}b"), "a state for what has none"),
        (Raw(b"}X\x01\0\0\0aa"), "items for what is no list"),
        (Raw(b"]K\x01K\x02s"), "entries for what is no dictionary"),
        (Raw(b"K\x01K\x02\x93"), "a global whose name is no text"),
        (Reference("storage"), "a reference that is no storage"),
        (Reference(("module", Name("torch", "FloatStorage"), "0", "cpu", 4)), "a refe"),
        (Reference(("storage", "FloatStorage", "0", "cpu", 4)), "a reference that is"),
        (storage("0", count=-1), "a storage that is a view"),
        (storage("0", count=8), "two storages that are called '0'"),
        (storage("0", "Double"), "two storages that are called '0'"),
        (storage("9"), "16 bytes for the storage 9, and 0 there"),
        (storage("../../etc/passwd"), "16 bytes for the storage ../../etc/passwd, and"),
        (storage("9", count=2**62), "18,446,744,073,709,551,616 bytes for the storage"),
    ],
)
def test_things_that_are_not_as_torch_makes_them(evil, said):
    assert refused(beside(evil)).startswith(said)


def test_numbers_that_torch_would_negate():
    """As of the imaginary parts of what is conjugated: the sign stands elsewhere."""
    hooks = Call(Name("collections", "OrderedDict"), ())
    for more, read in (({"neg": True}, False), ({"conj": True}, False), ({}, True)):
        arguments = (storage("0"), 0, (4,), (1,), False, hooks, more)
        value = {"w": Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)}
        content = writer.zipped(value, {"0": FOUR.tobytes()})
        if read:
            np.testing.assert_array_equal(torch_files.read(content).read("w"), FOUR)
        else:
            assert refused(content).startswith("a tensor whose numbers are yet to be")


def test_a_view_of_a_view_is_of_a_torch_long_gone():
    pid = ("storage", Name("torch", "FloatStorage"), "0", "cpu", 4, ("1", 0, 2))
    assert refused(beside(Reference(pid))).startswith("a storage that is a view")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 3), (3, 1)),
        (0, (2,), (4,)),
        (5, (0,), (1,)),
        (0, (2**62, 4), (0, 1)),
        (0, (100,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (-1, (4,), (1,)),
        (0, (-4,), (1,)),
        (0, (4,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 40, (1,) * 40),
        (0, (4.0,), (1,)),
        (0, (True,), (1,)),
        (0, "4", (1,)),
        (None, (4,), (1,)),
        (2**64, (0,), (1,)),
    ],
)
def test_tensors_that_leave_their_numbers(offset, size, stride):
    data = {"0": FOUR.tobytes()}
    value = {"w": tensor(storage("0"), offset, size, stride)}
    for form in FORMS.values():
        assert refused(form(value, data)).startswith("the tensor w ")


@pytest.mark.parametrize("of", [None, "0", (), {"key": "0"}, Name("torch", "device")])
def test_tensors_of_no_storage(of):
    assert (
        refused(writer.zipped({"w": tensor(of)}, {})) == "the tensor w without numbers"
    )


@pytest.mark.parametrize(
    "value",
    [None, 1, "w", [], {}, {"w": 1}, {"state_dict": {}}, [{"w": 1}], {1: {"model": 2}}],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_weights(value, form):
    said = refused(FORMS[form](value, {}))
    assert said.partition(", but ")[0] == "no dictionary of tensors"


def test_weights_under_names_of_ones_own():
    value, data = writer.tensors({"w": FOUR})
    said = refused(writer.zipped({"student": value, "teacher": value, 1: 2}, data))
    assert said == "no dictionary of tensors, but student, teacher"


def test_a_list_of_tensors_has_no_names():
    value, data = writer.tensors({"w": FOUR})
    assert refused(writer.zipped([value["w"]], data)) == "no dictionary of tensors"
    assert refused(writer.zipped({3: value["w"]}, data)) == "no dictionary of tensors"


# Bombs


def test_a_dictionary_that_holds_itself():
    raw = Raw(b"}q\x00X\x05\0\0\0modelh\x00s")
    said = refused(writer.zipped({"model": raw}, {}))
    assert said == "no dictionary of tensors, but model"


def laughs(times):
    """A list of a list of a list ..., each twice: 2 ** times in all."""
    opcodes = b"](K\x01K\x01e"
    for _ in range(times):
        opcodes += b"q\x00]h\x00ah\x00a"
    return opcodes


def test_a_billion_laughs():
    """They are as many objects as opcodes; nobody counts or compares them."""
    value, data = writer.tensors({"w": FOUR})
    content = writer.zipped({"state_dict": value, "lol": Raw(laughs(100))}, data)
    assert torch_files.read(content).skipped == ("lol",)


def test_a_key_that_would_be_hashed_for_ever():
    opcodes = b"K\x01"
    for _ in range(100):
        opcodes += b"q\x00h\x00\x86"  # a pair of what is there
    value, data = writer.tensors({"w": FOUR})
    content = writer.zipped(
        {"state_dict": value, "d": Raw(b"}" + opcodes + b"Ns")}, data
    )
    assert torch_files.read(content).skipped == ("d",)


@pytest.mark.parametrize("opcode", [b"]", b"(", b"\x85", b"}"])
def test_nesting_of_any_depth(opcode):
    depth = 50_000
    opcodes = {
        b"]": b"]" * depth + b"a" * (depth - 1),
        b"(": b"(" * depth + b"t" * depth,
        b"\x85": b"N" + b"\x85" * depth,
        b"}": b"}N" * depth + b"}" + b"s" * depth,
    }[opcode]
    value, data = writer.tensors({"w": FOUR})
    content = writer.zipped({"state_dict": value, "deep": Raw(opcodes)}, data)
    assert torch_files.read(content).skipped == ("deep",)


@pytest.mark.parametrize(
    "opcode", [b"h\x00", b"2", b"q\x05", b"\x94", b"r\xff\xff\xff\xff"]
)
def test_storms_of_the_memo(opcode):
    value, data = writer.tensors({"w": FOUR})
    storm = Raw(b"]q\x00(" + opcode * 10_000 + b"1")
    content = writer.zipped({"state_dict": value, "storm": storm}, data)
    assert torch_files.read(content).skipped == ("storm",)


def test_more_operations_than_any_network_needs(monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_OPERATIONS", 1000)
    said = refused(beside(Raw(b"]" + b"0]" * 1000)))
    assert said == "a pickle of too many operations"


@pytest.mark.parametrize(
    "opcodes",
    [
        b"h\x63",
        b"g99\n",
        b"0" * 100,
        b"1",
        b"t",
        b"e",
        b"u",
        b"R",
        b"(" + b"0" * 5 + b"}",
        b"(K\x01d",
        b"}(K\x01u",
        b"L" + b"9" * 5000 + b"L\n",
        b"I" + b"9" * 5000 + b"\n",
        b"Fx\n",
        b"X\xff\xff\xff\x7f",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"X\x01\0\0\0\xff",
        b"Vno end",
        b"c\n\n",
        b"\xff",
    ],
)
def test_damaged_pickles(opcodes):
    """What has no end, or takes what is not there; nothing large is allocated."""
    value, data = writer.tensors({"w": FOUR})
    content = writer.zipped({"state_dict": value, "x": Raw(opcodes)}, data)
    tracemalloc.start()
    refused(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


def test_tensors_that_share_their_numbers_a_million_times():
    one = storage("0", count=2**20)
    many = {f"w{i}": tensor(one, 0, (2**20,), (1,)) for i in range(1000)}
    said = refused(writer.zipped(many, {"0": bytes(2**22)}))
    assert said.startswith("tensors of 4,194,304,000 bytes in 4,")


def test_a_version_and_keys_that_hold_themselves():
    """Nobody writes them out: laughs(100) would take for ever."""
    value, data = writer.tensors({"w": FOUR})
    version = writer.dumps(writer.VERSION), writer.dumps(Raw(laughs(3)))
    said = refused(writer.legacy(value, data).replace(*version))
    assert said == "the unknown version list of torch's pickles"
    alone = laughs(3).replace(b"q\x00", b"q\x000")
    said = refused(writer.legacy(value, data, keys=[Raw(alone)]))
    assert said == "numbers that no tensor has, of the storage list"
    deep = writer.dumps(Raw(b"]" * 5000 + b"a" * 4999))
    refused(writer.legacy(value, data).replace(version[0], deep))


def test_a_few_opcodes_that_copy_what_thousands_have_made(monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_OPERATIONS", 5000)
    pairs = b"".join(b"K" + bytes([i]) + b"N\x86" for i in range(200))
    many = b"](" + pairs + b"e\x85q\x000ccollections\nOrderedDict\nq\x010]("
    copies = Raw(many + b"h\x01h\x00R" * 200 + b"e")
    assert refused(beside(copies)) == "a pickle of too many operations"
    nones = b"(" + b"N" * 200 + b"tq\x000ctorch._utils\n_rebuild_parameter\nq\x010]("
    calls = Raw(nones + b"h\x01h\x00R" * 200 + b"e")
    assert refused(beside(calls)) == "a pickle of too many operations"


def test_numbers_of_any_length_are_no_keys():
    """Each look at one would take as long as its length."""
    opcodes = b"}(" + b"\x8a\x09" + b"\1" * 9 + b"K\x01K\x02K\x03u."
    assert pickles.load(io.BytesIO(opcodes))[0] == {2: 3}


def test_wrappers_that_all_hold_the_same(monkeypatch):
    looked, look = [], torch_files._holds_tensors

    def counted(value, *rest):
        looked.append(value)
        return look(value, *rest)

    monkeypatch.setattr(torch_files, "_holds_tensors", counted)
    names = ["state_dict", "model", "module", "net", "network", "weights", "params"]
    value = {"w": 1}
    for _ in range(4):
        value = dict.fromkeys(names, value)
    assert refused(writer.zipped(value, {})).startswith("no dictionary of tensors")
    assert len(looked) < 1000  # 7 ** 4 paths lead to the innermost


def test_thousands_of_views_of_two_storages(monkeypatch):
    read, members = zipfile.ZipFile.read, []

    def counted(archive, member, *rest):
        members.append(member.filename)
        return read(archive, member, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    views = {f"w{i}": tensor(storage(str(i % 2)), i % 4, (1,)) for i in range(100)}
    data = {"0": FOUR.tobytes(), "1": (FOUR + 4).tobytes()}
    found = torch_files.read(writer.zipped(views, data))
    got = [found.read(name).item() for name in views]
    assert got == [i % 4 + 4 * (i % 2) for i in range(100)]
    assert members.count("archive/data/0") == members.count("archive/data/1") == 1


def test_names_of_any_length_are_said_in_short():
    said = refused(beside(Name("os", "a" * 10_000)))
    assert said.startswith("os.aaa")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(3, (1,), (2**62,)), (4, (0, 3), (2**62, 2**62)), (0, (1, 2), (2**63 - 1, 1))],
)
def test_strides_that_nobody_steps(offset, size, stride):
    value = {"w": tensor(storage("0"), offset, size, stride)}
    found = torch_files.read(writer.zipped(value, {"0": FOUR.tobytes()})).read("w")
    expected = FOUR[offset : offset + found.size].reshape(size)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("size", [(0, 2**62), (2**40, 0, 2**40)])
def test_nothing_of_any_size(size):
    """numpy has no such array."""
    value = {"w": tensor(storage("0"), 0, size, (1,) * len(size))}
    said = refused(writer.zipped(value, {"0": FOUR.tobytes()}))
    assert said.endswith("of which the file has 4")


# Zip archives


def rezipped(change):
    """A sound archive, changed by `change(archive, data)` while it is written."""
    value, data = writer.tensors({"w": FOUR})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        change(archive, writer.dumps(value))
        archive.writestr("archive/data/0", data["0"])
    return stream.getvalue()


def packed(archive, pickled):
    archive.writestr("archive/data.pkl", pickled, zipfile.ZIP_DEFLATED)


def bomb(archive, pickled):
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("archive/data/9", bytes(2**24), zipfile.ZIP_DEFLATED)


def several(archive, pickled):
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("other/data.pkl", pickled)


def twice(archive, pickled):
    archive.writestr("archive/data.pkl", pickled)
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", pickled)


def none(archive, pickled):
    archive.writestr("archive/other.pkl", pickled)


def deeper(archive, pickled):
    archive.writestr("archive/../etc/data.pkl", pickled)


def script(archive, pickled):
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("archive/code/__torch__/net.py", b"1", zipfile.ZIP_DEFLATED)


def big_endian(archive, pickled):
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("archive/byteorder", "big")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (packed, "the member 'archive/data.pkl' is packed"),
        (bomb, "the member 'archive/data/9' is packed"),
        (script, "a program of TorchScript (the member 'archive/code/__torch__/net.py"),
        (several, "a zip archive with 2 files data.pkl"),
        (twice, "a zip archive that has the member 'archive/data.pkl' twice"),
        (none, "a zip archive with 0 files data.pkl"),
        (deeper, "a zip archive with 0 files data.pkl"),
        (big_endian, "numbers whose bytes are in another order"),
    ],
)
def test_archives_that_torch_has_not_written(change, said):
    assert said in refused(rezipped(change))


def test_an_archive_with_a_password():
    content = bytearray(rezipped(lambda a, p: a.writestr("archive/data.pkl", p)))
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1  # of the first member, in the directory at the end
    assert refused(bytes(content)).startswith("a zip archive with a password (the memb")


def test_a_member_that_says_that_it_is_larger():
    content = bytearray(rezipped(lambda a, p: a.writestr("archive/data.pkl", p)))
    place = content.rindex(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    assert "archive/data/0" in refused(bytes(content)) or "there" in refused(
        bytes(content)
    )


def test_paths_in_an_archive_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, data = writer.tensors({"w": FOUR})
    names = ["../evil", "/evil", "archive/../../evil", "archive/\\evil", "C:\\evil"]
    members = [(name, b"evil") for name in names]
    found = torch_files.read(writer.zipped(value, data, members=members))
    np.testing.assert_array_equal(found.read("w"), FOUR)
    assert not [*tmp_path.parent.glob("evil*"), *tmp_path.iterdir()]


# The older form


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": {"little_endian": False}}, "numbers whose bytes are in another"),
        ({"machine": {"little_endian": 1}}, "numbers whose bytes are in another"),
        ({"machine": None}, "numbers whose bytes are in another"),
        ({"keys": {}}, "no list of its storages"),
        ({"keys": ["0", "0"]}, "no list of its storages"),
        ({"keys": []}, "no numbers of the storage 0"),
        ({"keys": ["0", "1"]}, "numbers that no tensor has, of the storage 1"),
        ({"counts": {"0": 3}}, "a storage of 4 numbers and of 3 at once"),
        ({"counts": {"0": -1}}, "a storage of 4 numbers and of -1 at once"),
        ({"counts": {"0": 2**62}}, "a storage of 4 numbers and of 4,611,686,018,427"),
    ],
)
def test_older_files_that_lie(change, said):
    value, data = writer.tensors({"w": FOUR})
    assert refused(writer.legacy(value, data, **change)).startswith(said)


def test_the_version_and_the_magic_number():
    value, data = writer.tensors({"w": FOUR})
    content = writer.legacy(value, data)
    newer = content.replace(writer.dumps(writer.VERSION), writer.dumps(1002))
    assert refused(newer) == "the unknown version 1002 of torch's pickles"
    assert refused(writer.dumps({"w": 1})).startswith("no tensors of torch's: neither")


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04", b"ustar", bytes(999)])
def test_no_file_of_torchs(content):
    refused(content)


# Cut off and changed, everywhere


@pytest.mark.parametrize("name", ["numbers-zip", "numbers-legacy", "checkpoint-legacy"])
def test_a_file_that_is_cut_off_anywhere(name):
    content = recorded(f"{name}.pth")
    for length in range(0, len(content), 11):
        with pytest.raises(RefusedError):
            torch_files.read(content[:length])
    with pytest.raises(DamagedError):
        torch_files.read(content[:-1])


@pytest.mark.parametrize("name", ["numbers-zip", "numbers-legacy", "checkpoint-zip"])
def test_a_file_with_a_wrong_byte_anywhere(name):
    """It is refused, or read as something else: nothing other happens."""
    content = recorded(f"{name}.pth")
    for place in range(0, len(content), 13):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        try:
            found = torch_files.read(bytes(changed))
            for key in found.tensors:
                found.read(key)
        except RefusedError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_what_is_skipped_is_nothing():
    found, storages = pickles.load(
        io.BytesIO(
            writer.dumps(
                Call(Name("numpy._core.multiarray", "scalar"), (b"\0" * 8, None))
            )
        )
    )
    assert found == Skipped("numpy._core.multiarray.scalar")
    assert not storages
