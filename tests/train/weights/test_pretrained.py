import json
import math
import os
import pickle
import shutil
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import models
from common.errors import UserError
from models.errors import ModelError
from tests.peers import timm_weights
from tests.support import tiny, torch_files
from tests.support.golden import DATA, read_json
from tests.support.rounding import rounding
from train.checkpoints import manager
from train.experiment import Experiment
from train.state import by_path
from train.weights import classifiers, pretrained

AVERAGE = "/ExponentialMovingAverage"


def assert_close_logits(model, pixels, expected):
    """As far apart as the sums of all layers, one after the other, may be rounded."""
    kernels = [v.shape for v in model.weights if v.name == "kernel"]
    terms = sum(
        math.prod(shape[:2] if shape[2:] and shape[-1] == 1 else shape[:-1])
        for shape in kernels
    )
    atol = rounding(terms, scale=np.abs(expected).max())
    np.testing.assert_allclose(np.asarray(model(pixels)), expected, rtol=0, atol=atol)


# The authors' checkpoints


def save_tf1(prefix, tensors):
    """Writes what TF1's Saver writes: tensors by name, nothing else."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


def with_average(raw, average):
    """A checkpoint's tensors as training leaves them, with slots and a counter."""
    tensors = {"global_step": np.int64(218_949)}
    for name in raw:
        key = f"efficientnet-x-b0/{name}"
        tensors[key] = raw[name]
        tensors[f"{key}{AVERAGE}"] = average[name]
        if "/moving_" not in name:
            for slot in ("RMSProp", "RMSProp_1"):
                tensors[f"{key}/{slot}"] = np.full_like(raw[name], np.nan)
    return tensors


@pytest.fixture(scope="module")
def x_b0():
    return models.build_model("efficientnet-x-b0", resolution=64)


@pytest.fixture(scope="module")
def golden(golden_weights):
    """The weights of the goldens by the reference's names."""
    name = "efficientnet-x-b0"
    names = [variable for variable, _, _ in read_json("models/variables.json.xz")[name]]
    return dict(zip(names, golden_weights(name), strict=True))


@pytest.fixture(scope="module")
def of_authors(golden, tmp_path_factory):
    """A checkpoint whose averages are the goldens' weights."""
    prefix = tmp_path_factory.mktemp("authors") / "model.ckpt"
    raw = {name: value + 1 for name, value in golden.items()}
    save_tf1(prefix, with_average(raw, golden))
    return prefix


def assert_golden_logits(model, pixels):
    with np.load(DATA / "models/efficientnet-x-b0.npz") as arrays:
        assert_close_logits(model, pixels, arrays["infer_logits"])


def zero(model):
    for v in model.weights:
        v.assign(np.zeros(v.shape, np.float32))


def test_weights_of_the_authors(of_authors, golden, x_b0, golden_pixels, tmp_path):
    """The averages, by three names of theirs, and the raw ones of another."""
    average = {name: value + 1 for name, value in golden.items()}
    save_tf1(tmp_path / "model.ckpt-9", with_average(golden, average))
    pretrained.load(x_b0, path=str(tmp_path / "model.ckpt-9"), averaged=False)
    assert_golden_logits(x_b0, golden_pixels(2, 64))
    raw = x_b0.get_weights()
    for path in (of_authors, f"{of_authors}.index", of_authors.parent):
        zero(x_b0)
        pretrained.load(x_b0, path=str(path))
        for value, same in zip(x_b0.get_weights(), raw, strict=True):
            np.testing.assert_array_equal(value, same)


def test_only_what_is_needed_is_read(of_authors):
    kind, tensors = pretrained.read(str(of_authors))
    assert kind == "reference"
    assert len(tensors) == 2 * 296 + 2 * 204 + 1
    key = f"efficientnet-x-b0/stem/conv2d/kernel{AVERAGE}"
    assert tensors[key].shape == (3, 3, 3, 32)
    assert "stem/conv2d/kernel" not in tensors


def test_errors_name_the_file(of_authors, tmp_path):
    model = models.build_model(tiny.variant())
    with pytest.raises(ModelError) as error:
        pretrained.load(model, path=str(of_authors))
    assert str(error.value) == (
        f"{of_authors}: efficientnet-x-b0/stem/conv2d/kernel{AVERAGE} has the shape "
        "(3, 3, 3, 32), not (3, 3, 3, 8) in tiny; of the table, efficientnet-x-b0 or "
        "efficientnet-x-tpu-b0 or efficientnet-x-gpu-b0 would fit"
    )


# timm's


@pytest.fixture(scope="module")
def of_timm(tmp_path_factory):
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    state, _ = timm_weights.recorded("tf_efficientnet_b0")
    safetensors.numpy.save_file(state, path)
    return path


def test_logits_of_timm(of_timm):
    model = models.build_model("efficientnet-b0", num_classes=32, resolution=64)
    pretrained.load(model, path=str(of_timm))
    _, expected = timm_weights.recorded("tf_efficientnet_b0")
    assert_close_logits(model, timm_weights.pixels(64), expected[64])


def test_new_head(of_timm):
    model = models.build_model("efficientnet-b0", num_classes=3, resolution=64)
    own = model.get_layer("classifier").kernel.numpy()
    with pytest.raises(ModelError, match="all else fits: new_head=True leaves the cla"):
        pretrained.load(model, path=str(of_timm))
    pretrained.load(model, path=str(of_timm), new_head=True)
    state, _ = timm_weights.recorded("tf_efficientnet_b0")
    np.testing.assert_array_equal(model.get_layer("classifier").kernel.numpy(), own)
    np.testing.assert_array_equal(
        model.get_layer("head_bn").moving_mean.numpy(), state["bn2.running_mean"]
    )


def test_new_head_of_a_run_begins_near_zero(of_timm):
    """Near: in a tie of all classes each would count as right."""
    model = models.build_model("efficientnet-b0", num_classes=3, resolution=64)
    layer = model.get_layer("classifier")
    own, bias = layer.kernel.numpy(), layer.bias.numpy()
    experiment = mock.Mock(Experiment, pretrained=str(of_timm), new_head=True)
    pretrained.load_into(experiment, model)
    np.testing.assert_array_equal(layer.kernel.numpy(), own * np.float32(0.01))
    np.testing.assert_array_equal(layer.bias.numpy(), bias)
    assert np.abs(own).max() > 0.5  # the reference's limit is 0.58 of three classes


# A run of ours


@pytest.fixture(scope="module")
def of_run(tmp_path_factory):
    """A folder with two checkpoints, and the model and the average of the newer.

    And the model's weights in the older.
    """
    folder = tmp_path_factory.mktemp("run")
    pair = [models.build_model(tiny.variant(), seed=seed) for seed in (1, 2)]
    parts = zip(("model", "ema"), pair, strict=True)
    held = {"step": tf.Variable(tf.constant(8))}
    for part, model in parts:
        held |= by_path(part, model.weights)
    with manager.Checkpoints(held, str(folder), keep=2) as checkpoints:
        checkpoints.save()
        before = [v.numpy() for v in pair[0].weights]
        held["step"].assign(12)
        for model in pair:
            for v in model.weights:
                v.assign(v + 1)
        checkpoints.save()
    return folder, *pair, before


def assert_equal_weights(model, expected, but=()):
    for found, v in zip(model.weights, expected.weights, strict=True):
        if found.path not in but:
            np.testing.assert_array_equal(found.numpy(), v.numpy())


def test_a_run(of_run):
    folder, raw, average, before = of_run
    model = models.build_model(tiny.variant())
    pretrained.load(model, path=str(folder))
    assert_equal_weights(model, average)
    pretrained.load(model, path=str(folder), averaged=False)
    assert_equal_weights(model, raw)
    pretrained.load(model, path=f"{folder}/ckpt-8", averaged=False)
    for found, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(found.numpy(), value)


def test_a_model_on_two_devices(of_run, logical_cpus):
    folder, _, average, _ = of_run
    strategy = tf.distribute.MirroredStrategy(logical_cpus)
    with strategy.scope():
        model = models.build_model(tiny.variant())
    pretrained.load(model, path=str(folder))
    for found, v in zip(model.weights, average.weights, strict=True):
        for value in strategy.experimental_local_results(found.value):
            np.testing.assert_array_equal(value.numpy(), v.numpy())


def test_a_run_on_other_classes(of_run):
    folder, _, average, _ = of_run
    model = models.build_model(tiny.variant(), num_classes=3)
    with pytest.raises(ModelError) as error:
        pretrained.load(model, path=str(folder))
    assert str(error.value) == (
        f"{folder}: classifier/kernel has the shape (16, 1000), not (16, 3) in tiny; "
        "all else fits: new_head=True leaves the classifier out"
    )
    pretrained.load(model, path=str(folder), new_head=True)
    assert_equal_weights(model, average, but=("classifier/kernel", "classifier/bias"))


def test_another_run(of_run, x_b0):
    folder, *_ = of_run
    with pytest.raises(ModelError) as error:
        pretrained.load(x_b0, path=str(folder))
    assert str(error.value) == (
        f"{folder}: stem_conv/kernel has the shape (3, 3, 3, 8), not (3, 3, 3, 32) in "
        "efficientnet-x-b0; of the table, no variant would fit"
    )


@pytest.mark.parametrize("file", ["index", "json", "data-00000-of-00001"])
def test_a_run_with_a_wrong_byte(of_run, tmp_path, file):
    folder = shutil.copytree(of_run[0], tmp_path / "run")
    path = folder / f"ckpt-12.{file}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refused(f"{folder}/ckpt-12").startswith("cannot read ")
    read_all(f"{folder}/ckpt-8")


# Files by the paths of our own variables


@pytest.fixture(scope="module")
def of_ours(tmp_path_factory):
    """A file of a tiny network of three classes, and what is in it."""
    path = tmp_path_factory.mktemp("ours") / "found.safetensors"
    model = models.build_model(tiny.variant(), num_classes=3)
    values = {
        v.path: np.full(v.shape, 1 + i, np.float32) for i, v in enumerate(model.weights)
    }
    path.write_bytes(safetensors.numpy.save(values))
    return str(path), values


@pytest.mark.parametrize("averaged", [True, False])
def test_a_file_of_our_own_names(of_ours, averaged):
    """It has one set of weights, which is whatever is asked for."""
    path, values = of_ours
    model = models.build_model(tiny.variant(), num_classes=3)
    pretrained.load(model, path=path, averaged=averaged)
    for variable in model.weights:
        np.testing.assert_array_equal(variable, values[variable.path])
    assert classifiers.number_of_classes(path) == 3


def test_a_file_of_our_own_names_for_other_classes(of_ours, x_b0):
    path, values = of_ours
    model = models.build_model(tiny.variant(), num_classes=5)
    with pytest.raises(ModelError, match="all else fits: new_head=True leaves the cl"):
        pretrained.load(model, path=path)
    pretrained.load(model, path=path, new_head=True)
    kernel = model.get_layer("head_conv").kernel
    np.testing.assert_array_equal(kernel, values["head_conv/kernel"])
    with pytest.raises(ModelError, match="in efficientnet-x-b0; of the table"):
        pretrained.load(x_b0, path=path)


# Files that are not there, or are something else


def read_all(path):
    return dict(pretrained.read(str(path))[1])


def refused(path):
    with pytest.raises(UserError) as error:
        read_all(path)
    return str(error.value)


def test_a_path_that_does_not_exist(tmp_path):
    there = tmp_path / "model"
    assert refused(there) == f"there is no checkpoint, file or folder {there}"
    missing = f"{there}.safetensors"
    assert refused(missing) == f"there is no file {missing}"
    assert refused(f"{there}.pth") == (
        f"there is no checkpoint, file or folder {there}.pth"
    )


BY_NAME = (
    "; by name there are efficientnet-lite0, efficientnet-lite1, efficientnet-lite2; "
    "others are not fetched: download timm's .safetensors or the authors' checkpoint, "
    "and name the path"
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("imagenet", f"there is no checkpoint, file or folder imagenet{BY_NAME}"),
        ("a.safetensors", f"there is no file a.safetensors{BY_NAME}"),
        (
            "efficientnet-b0",
            "there is no checkpoint, file or folder efficientnet-b0; no package is "
            "known that brings weights of efficientnet-b0, as of efficientnet-lite0, "
            "efficientnet-lite1, efficientnet-lite2: download timm's .safetensors or "
            "the authors' checkpoint, and name the path",
        ),
        (
            "tf_efficientnet_lite0",
            "there is no checkpoint, file or folder tf_efficientnet_lite0; there "
            "are no weights tf_efficientnet_lite0: did you mean efficientnet-lite0?",
        ),
        ("timm/b0", f"there is no checkpoint, file or folder timm/b0{BY_NAME}"),
        (
            "hf-hub:timm/b0",
            f"there is no checkpoint, file or folder hf-hub:timm/b0{BY_NAME}",
        ),
        ("caf\udce9", "cannot read caf\udce9: its name is not UTF-8; rename it"),
        *(
            (
                f"{scheme}://a/b{suffix}",
                f"cannot read {scheme}://a/b{suffix}: TensorFlow reads no {scheme}:// "
                "here; fetch it, and name the file on this machine",
            )
            for scheme in ("http", "https", "hdfs", "s3", "hf")
            for suffix in ("", ".safetensors", ".index")
        ),
    ],
)
def test_what_is_no_path(path, said):
    assert refused(path) == said


def test_a_folder_that_tensorflow_takes_for_a_pattern(tmp_path):
    folder = tmp_path / "runs [2]"
    folder.mkdir()
    save_tf1(folder / "model.ckpt", {"x": np.zeros(3)})
    assert refused(folder) == (
        f"cannot read {folder}: TensorFlow reads no weights under a name with [2], "
        "which it takes for a pattern: rename the folder, or name another"
    )


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_a_storage_that_does_not_answer(name, monkeypatch):
    def fail(_):
        said = "no such host\n\t when reading gs://nowhere/a"
        raise tf.errors.FailedPreconditionError(None, None, said)

    monkeypatch.setattr(tf.io.gfile, "exists", fail)
    assert refused(f"gs://nowhere/{name}") == (
        f"cannot read gs://nowhere/{name}: no such host; look at its name, the network "
        "and the credentials"
    )


def test_a_folder_without_one_checkpoint(tmp_path):
    assert refused(tmp_path) == f"there is no checkpoint in the folder {tmp_path}"
    for name in ("model.ckpt-1", "model.ckpt-2"):
        save_tf1(tmp_path / name, {"x": np.zeros(3)})
    assert refused(tmp_path) == (
        f"{tmp_path} holds several checkpoints, name one: model.ckpt-1, model.ckpt-2"
    )


@pytest.mark.parametrize("name", ["weights.npz", "weights.pkl", "weights"])
def test_another_file(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"PK")
    assert refused(path) == (
        f"{path} is no file of weights that is known here: name a .safetensors or .pth "
        "file, or a checkpoint by what stands before .index"
    )


OF_KERAS = (
    "{} is a file of Keras', which is not read here; take the same network's weights "
    "from timm, as .safetensors, or from the authors, as a checkpoint"
)
OF_SAVED_MODEL = (
    "{} is a SavedModel's, which is not read here; name the folder of the run that it "
    "was exported from"
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b0_notop.h5", OF_KERAS),
        ("b0.keras", OF_KERAS),
        ("b0.weights.h5", OF_KERAS),
        ("saved_model.pb", OF_SAVED_MODEL),
    ],
)
def test_files_of_other_tools(name, said, tmp_path):
    """By their own name, and by that of a folder with nothing else."""
    path = tmp_path / name
    path.write_bytes(b"\x89HDF")
    assert refused(path) == said.format(path)
    assert refused(tmp_path) == said.format(path)


def test_a_folder_with_one_file_of_weights(of_timm):
    assert refused(of_timm.parent) == (
        f"there is no checkpoint in the folder {of_timm.parent}; name its file "
        f"{of_timm}"
    )


SAVED = {"blocks_0/conv2d/kernel": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    ("listed", "taken"),
    [
        (
            b'model_checkpoint_path: "model.ckpt-2"\nall_model_checkpoint_paths: "x"',
            True,
        ),
        (b'model_checkpoint_path: "/home/them/model.ckpt-2"', True),
        (b'model_checkpoint_path: "../../model.ckpt-2"', True),
        (b'model_checkpoint_path: "model.ckpt-3"', False),
        (b'model_checkpoint_path: ""', False),
        (b"\xff\xfe\0", False),
        (b"", False),
        (os.mkdir, False),
        (os.mkfifo, False),
        (lambda path: path.symlink_to("model.ckpt-2.index"), False),
    ],
)
def test_the_list_that_tensorflow_1_leaves(listed, taken, tmp_path):
    """By its names alone: the folder came from elsewhere."""
    for number in (1, 2):
        value = {name: number * one for name, one in SAVED.items()}
        save_tf1(tmp_path / f"model.ckpt-{number}", value)
    path = tmp_path / "checkpoint"
    if callable(listed):
        listed(path)
    else:
        path.write_bytes(listed)
    if taken:
        (value,) = read_all(tmp_path).values()
        np.testing.assert_array_equal(value, [2, 2, 2])
    else:
        assert refused(tmp_path) == (
            f"{tmp_path} holds several checkpoints, name one: model.ckpt-1, "
            "model.ckpt-2"
        )


def link_to_zeros(path):
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "it is a named pipe; move it away"),
        (os.mkdir, "it is a folder; move it away"),
        (link_to_zeros, "it is a device; move it away"),
    ],
)
@pytest.mark.parametrize(
    "file",
    ["model.safetensors", "model.ckpt.index", "model.ckpt.data-00000-of-00001"],
)
def test_what_is_no_file(make, said, file, tmp_path):
    """None is waited for, none fills the memory."""
    save_tf1(tmp_path / "model.ckpt", SAVED)
    path = tmp_path / file
    path.unlink(missing_ok=True)
    make(path)
    name = str(path).removesuffix(".data-00000-of-00001").removesuffix(".index")
    assert refused(name) == f"cannot read {path}: {said}"


def test_a_ring_of_links(tmp_path):
    path = tmp_path / "model.safetensors"
    link_to_itself(path)
    assert refused(path) == f"there is no file {path}"
    save_tf1(tmp_path / "model.ckpt", SAVED)
    path = tmp_path / "model.ckpt.data-00000-of-00001"
    path.unlink()
    link_to_itself(path)
    assert refused(tmp_path / "model.ckpt").startswith(f"cannot read {path}: Too many ")


def test_a_file_is_not_believed_to_be_of_any_size(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"conv_stem.weight":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
    header %= (2**38, 2**40)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(2**40 + 8 + len(header))
    assert refused(path) == (
        f"cannot read {path}: it has {path.stat().st_size:,} bytes, more than the "
        "weights of any network here"
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_truth_values_are_no_weights(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    tensors = {"conv_stem.weight": np.ones(3, np.float32), "b": np.ones(3, bool)}
    if suffix == ".ckpt":
        save_tf1(path, tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    assert refused(path) == f"{path}: b holds BOOL, which is no weight"


def tensor(shape, first, past, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, past]}


def lying(entries, data=b"", length=None):
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    length = len(header) if length is None else length
    return length.to_bytes(8, "little") + header + data


NAME = "conv_stem.weight"
FOUR = bytes(4)


class Acts:
    """Whose pickle would leave the process."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize(
    "content",
    [
        lying({NAME: tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
        lying({NAME: tensor([1], -4, 0)}, FOUR),
        lying({NAME: tensor([1], 2**60, 2**60 + 4)}, FOUR),
        lying({NAME: tensor([2**40], 0, 4)}, FOUR),
        lying({NAME: tensor([2**33, 2**33], 0, 4)}, FOUR),
        lying({NAME: tensor([1], 8, 4)}, bytes(8)),
        lying({NAME: tensor([1], 4, 8)}, bytes(8)),
        lying({NAME: tensor([-1], 0, 4)}, FOUR),
        lying({NAME: tensor([1.5], 0, 4)}, FOUR),
        lying({NAME: tensor([1] * 70, 0, 4)}, FOUR),
        lying({NAME: tensor([1], 0, 4, "X9")}, FOUR),
        lying({NAME: tensor([1], 0, 4)}, bytes(400)),
        lying({NAME: {"shape": [1], "data_offsets": [0, 4]}}, FOUR),
        lying({NAME: tensor([1], 0, 4), "__metadata__": [1]}, FOUR),
        lying(b"{}", length=2**63),
        lying(b"{}", length=2**64 - 1),
        lying(b"{}", length=99),
        lying(b"", length=0),
        lying(b"[]"),
        lying(b"[" * 90_000),
        lying(bytes(20)),
        lying(b'{"\xe9":1}'),
        pickle.dumps(Acts()),
        b"PK\x03\x04",
        b"",
        bytes(7),
    ],
)
def test_safetensors_that_lie(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    said = refused(path)
    assert said.startswith(f"cannot read {path}: ")
    assert said.endswith("; fetch it again")
    assert "\n" not in said


def test_tensors_of_somebody_else(tmp_path):
    save_tf1(tmp_path / "model.ckpt", {"b/w": np.zeros(3), "a/w": np.zeros(3)})
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(3)}, path)
    message = (
        "holds no weights that are known here, neither the authors' (blocks_0/...) nor "
        "timm's (conv_stem.weight) nor efficientnet_pytorch's (_conv_stem.weight) nor "
        "a run's (model/... or stem_conv/kernel), but "
    )
    assert refused(path) == f"{path} {message}w"
    path = tmp_path / "model.ckpt"
    assert refused(path) == f"{path} {message}a/w, b/w"


def test_a_safetensors_file_that_was_cut_short(of_timm, tmp_path):
    path = tmp_path / "short.safetensors"
    whole = of_timm.read_bytes()
    for size in (0, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert refused(path).startswith(f"cannot read {path}: ")
    assert refused(path).endswith("; fetch it again")


def test_numbers_that_numpy_has_not(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"conv_stem.weight":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    assert refused(path) == (
        f"cannot read {path}: it holds numbers of the type 'BF16'; save its tensors "
        "as float32"
    )


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_short(file, kept, tmp_path):
    blocks = {f"blocks_{i}/conv2d/kernel": np.ones(5000) * i for i in range(9)}
    save_tf1(tmp_path / "model.ckpt", blocks)
    path = tmp_path / f"model.ckpt.{file}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    prefix = tmp_path / "model.ckpt"
    assert refused(prefix).startswith(f"cannot read {prefix}: ")


def test_a_checkpoint_without_its_data(tmp_path):
    save_tf1(tmp_path / "model.ckpt", {"blocks_0/conv2d/kernel": np.ones(3)})
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    assert refused(tmp_path / "model.ckpt").startswith("cannot read ")


# torch's files


def save_torch(path, arrays, form, **more):
    value, data = torch_files.tensors(arrays)
    counts = {str(i): np.size(array) for i, array in enumerate(arrays.values())}
    counts = {"counts": counts} if form is torch_files.legacy else {}
    path.write_bytes(form({"model": value, **more}, data, **counts))


def test_weights_of_torchs_files(tmp_path, capsys):
    """In both forms, from several devices, with more beside them, which is said."""
    state, expected = timm_weights.recorded("tf_efficientnet_b0")
    state = {f"module.{name}": value for name, value in state.items()}
    model = models.build_model("efficientnet-b0", num_classes=32, resolution=64)
    for name, form in (
        ("a.pth", torch_files.zipped),
        ("a.pth.tar", torch_files.legacy),
    ):
        path = tmp_path / name
        save_torch(path, state, form, epoch=3, optimizer={"state": {}})
        zero(model)
        pretrained.load(model, path=str(path))
        assert_close_logits(model, timm_weights.pixels(64), expected[64])
        assert capsys.readouterr().err == (
            f"{path}: the weights are taken below model; epoch, optimizer beside them "
            "are not looked at\n"
        )


def test_names_of_efficientnet_pytorch(tmp_path):
    """Of a whole network with squeeze-and-excite, by its rules: against timm's."""
    state, expected = timm_weights.recorded("tf_efficientnet_b0")
    places = sorted(
        {tuple(map(int, n.split(".")[1:3])) for n in state if "blocks" in n}
    )
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
    outer |= {"bn2": "_bn1", "classifier": "_fc"}
    with_expansion = {"conv_pw": "_expand_conv", "bn1": "_bn0", "bn3": "_bn2"}
    with_expansion |= {"conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    with_expansion |= {"conv_pwl": "_project_conv"}
    without = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv"}
    without |= {"bn2": "_bn2"}
    se = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    found = {}
    for name, value in state.items():
        if name.startswith("blocks."):
            _, stage, block, *_ = name.split(".")
            layer, _, role = name.split(".", 3)[3].rpartition(".")
            number = places.index((int(stage), int(block)))
            layers = (without if stage == "0" else with_expansion) | se
            found[f"_blocks.{number}.{layers[layer]}.{role}"] = value
        else:
            layer, _, role = name.rpartition(".")
            found[f"{outer[layer]}.{role}"] = value
    assert len(found) == len(state)
    save_torch(tmp_path / "b0.bin", found, torch_files.zipped)
    model = models.build_model("efficientnet-b0", num_classes=32, resolution=64)
    assert pretrained.read(str(tmp_path / "b0.bin"))[0] == "efficientnet_pytorch"
    pretrained.load(model, path=str(tmp_path / "b0.bin"))
    assert_close_logits(model, timm_weights.pixels(64), expected[64])


def test_a_file_of_torchs_that_would_run_something(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(Acts(), 2))
    assert refused(path) == (
        f"cannot read {path}: it holds posix._exit, which is not what weights are made "
        "of, and nothing that stands in a file is run here; if you trust it, load it "
        "with the program that has written it, and save the state dict alone"
    )


@pytest.mark.parametrize(
    "name", ["model.pth", "model.pt", "pytorch_model.bin", "a.tar"]
)
def test_a_file_of_torchs_that_is_cut_off(name, tmp_path):
    path = tmp_path / name
    save_torch(path, {"conv_stem.weight": np.ones(9, np.float32)}, torch_files.zipped)
    path.write_bytes(path.read_bytes()[:-50])
    assert refused(path) == (
        f"cannot read {path}: it holds a zip archive that is damaged (File is not a "
        "zip file); fetch it again"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "it is a named pipe; move it away"),
        (link_to_zeros, "it is a device"),
    ],
)
def test_what_is_no_file_of_torchs(make, said, tmp_path):
    make(tmp_path / "a.pth")
    assert refused(tmp_path / "a.pth").startswith(
        f"cannot read {tmp_path}/a.pth: {said}"
    )


def test_truth_values_of_torchs_are_no_weights(tmp_path):
    path = tmp_path / "a.pth"
    arrays = {"conv_stem.weight": np.ones(3, np.float32), "b": np.ones(3, bool)}
    save_torch(path, arrays, torch_files.zipped)
    assert refused(path) == f"{path}: b holds BOOL, which is no weight"


# Folders as timm writes them for its local-dir: names


def test_a_folder_of_timms(of_timm, tmp_path):
    shutil.copy(of_timm, tmp_path / "model.safetensors")
    assert "there is no checkpoint in the folder" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, f"{tmp_path}/"):
        kind, tensors = pretrained.read(str(path))
        assert kind == "timm"
        assert len(tensors) == len(timm_weights.recorded("tf_efficientnet_b0")[0])
