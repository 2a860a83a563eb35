"""Every kind of image gets the same answer everywhere."""

import pytest

from benchmarks import image_kinds
from benchmarks.support.image_kinds import kinds

# Of a JPEG of quality 95 made of ramps, and of TensorFlow's fast inverse DCT: `prepare`
# converts what is no RGB JPEG, and a SavedModel decodes the PNG or JPEG itself.
_OF_A_JPEG = 2.5
_PLACES = {  # that read what is read "everywhere", and those that read files
    "everywhere": {"prepare tfrecords", "validate", "training", "evaluation"}
    | {"SavedModel"},
    "files": {"prepare imagefolder", "classify"},
}
KINDS = {one.name: one for one in kinds()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return image_kinds.ask_everyone(list(KINDS.values()), tmp_path_factory.mktemp("k"))


@pytest.mark.long
def test_the_same_answer_everywhere(answers):
    assert set(answers) == _PLACES["everywhere"] | _PLACES["files"]
    for place, found in answers.items():
        for name, kind in KINDS.items():
            reads = kind.read == "everywhere" or (
                kind.read == "files" and place in _PLACES["files"]
            )
            # It looks at first bytes alone, in which there is no size.
            reads |= place == "prepare tfrecords" and "huge" in name
            assert (found[name] == image_kinds.READ) == reads, (place, found[name])


def test_what_is_refused_is_named(answers):
    """By what it is, or the size that it claims; a graph knows no more than two."""
    for name, kind in KINDS.items():
        word = "pixels" if "huge" in name else name.partition(",")[0]
        for place, found in answers.items():
            words = found[name]
            if words == image_kinds.READ:
                continue
            if place == "SavedModel" and "huge" not in name:
                assert words == "image is no JPEG and no PNG"
            elif kind.name == "web page":
                assert "image" in words or "page" in words, (place, words)
            else:
                word = {"PPM": "PNM", "PGM": "PNM"}.get(word, word)
                assert word in words, (place, words)


def test_training_and_serving_see_the_same():
    apart = image_kinds.differences(list(KINDS.values()))
    assert set(apart) == {n for n, one in KINDS.items() if one.read != "nowhere"}
    assert max(apart.values()) <= _OF_A_JPEG
    # What prepare stores as it came, and what classify converts as prepare does.
    for name, kind in KINDS.items():
        same = kind.read == "files" or name.startswith("JPEG, RGB")
        assert apart.get(name, 0.0) == 0.0 or not same
