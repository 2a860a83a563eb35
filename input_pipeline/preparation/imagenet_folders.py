"""ImageNet (ILSVRC 2012) that was extracted already, as Kaggle hands it out.

The records are those of the tar files: same images, labels and names, same bytes.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

from common.console import count, named
from input_pipeline.errors import DataError
from input_pipeline.preparation import imagenet
from input_pipeline.preparation.image_folders import folders, known_layouts
from input_pipeline.preparation.image_folders.layouts import Place
from input_pipeline.preparation.image_folders.sources import Folder
from input_pipeline.preparation.imagenet import Truth
from input_pipeline.preparation.jpeg import BadImageError, Jpeg, to_rgb_jpegs
from input_pipeline.preparation.plan import Class, Item, Plan, Split, shuffled

_VALIDATION = "val"


@dataclasses.dataclass(frozen=True)
class SynsetFolders:
    """Images by their names in the folders of their classes."""

    root: str
    synsets: tuple[str, ...]

    def load(self, item: Item) -> Jpeg:
        """Read one file; raises BadImageError or DataError."""
        return self._folder(item).load(item)

    def convert(self, files: Sequence[bytes]) -> list[Jpeg | BadImageError]:
        """Do what `load` does with files that were read."""
        return to_rgb_jpegs(files)

    def read(self, item: Item) -> bytes:
        """Return the bytes of one file; raises BadImageError or DataError."""
        return self._folder(item).read(item)

    def describe(self, item: Item) -> str:
        """Return the path of the file."""
        return self._folder(item).describe(item)

    def _folder(self, item: Item) -> Folder:
        return Folder(os.path.join(self.root, self.synsets[item.label]))


def plan(
    source: str,
    *,
    labels: str | None = None,
    shards: int = 1024,
    validation_shards: int = 128,
) -> tuple[Plan, list[str]]:
    """Plan the TFRecords of ImageNet from folders; classes are in order of synsets.

    Args:
      source: the folder with train/ and perhaps val/, as ILSVRC/Data/CLS-LOC, or at
        most three levels above it; or that of the classes' folders alone.
      labels: as for `imagenet.plan`, of validation images that lie in no class
        folders; by default Kaggle's LOC_val_solution.csv, beside them or above.
      shards: files of the training split.
      validation_shards: files of the validation split.

    Returns:
      The plan, and notes on what is not as in the whole dataset.

    Raises:
      DataError: there is no such folder; labels are missing or do not fit.
    """
    if not os.path.isdir(source):
        raise DataError(
            f"there is no folder {source}: name the one of train and val with --source"
        )
    place, train = _find(Place(source, "", folders.read(source)))
    truth = Truth([], {}) if labels is None else imagenet.read_truth(labels)
    words = truth.words or known_layouts.words_beside(place)
    synsets = tuple(sorted(train.inner))
    by_name = Split(
        SynsetFolders(str(train), synsets),
        shuffled(_in_folders(train, synsets)),
        shards,
    )
    splits, notes = {"train": by_name}, []
    val = place.inner.get(_VALIDATION)
    if val is not None:
        splits["validation"], notes = _validation(
            place, val, truth, synsets, validation_shards
        )
    elif labels is not None:
        raise DataError(f"{place} has no folder {_VALIDATION}: leave out --labels")
    notes += [
        f"left out {count(one.images, 'image')} in {one}"
        for name, one in place.inner.items()
        if one is not train and name != _VALIDATION and place is not train
    ]
    classes = tuple(Class(one, words.get(one, one)) for one in synsets)
    whole = Plan("imagenet", classes, splits)
    return whole, [*notes, *imagenet.notes_on(whole)]


def _find(place: Place) -> tuple[Place, Place]:
    """Return the folder of the splits, and that of the training classes."""
    for one in known_layouts.around(place):
        train = one.inner.get("train")
        if train and known_layouts.is_synsets(train):
            return one, train
        if known_layouts.is_synsets(one):
            return one, one
    raise DataError(
        f"{place} holds no folder train with one for each synset (n01440764): name "
        "ILSVRC/Data/CLS-LOC with --source, or use the command imagefolder"
    )


def _in_folders(place: Place, synsets: Sequence[str]) -> list[Item]:
    """Return the images that lie in the folders of their classes."""
    label_of = {synset: label for label, synset in enumerate(synsets)}
    if unknown := sorted(place.inner.keys() - label_of.keys()):
        raise DataError(
            f"{place} holds {named(unknown)}, of which train has none: move it away"
        )
    found = {}
    for synset, one in place.inner.items():
        if one.inner:
            raise DataError(
                f"{one} holds further folders, {named(one.inner)}: use the command "
                "imagefolder"
            )
        found[synset] = _items(one.folder, label_of[synset])
    imagenet.require_unique(found, str(place))
    return [item for items in found.values() for item in items]


def _items(folder: folders.Folder, label: int) -> list[Item]:
    return [Item(name, label, 0, size) for name, size in folder.images]


def _validation(
    place: Place, val: Place, truth: Truth, synsets: tuple[str, ...], shards: int
) -> tuple[Split, list[str]]:
    """Return the validation images, labelled by their folders, numbers or names."""
    if not val.is_flat:
        items = _in_folders(val, synsets)
        if truth.synsets:
            for item in items:
                name = f"{synsets[item.label]}/{item.filename}"
                imagenet.synset_of(name, truth.synsets, str(val))
        source = SynsetFolders(str(val), synsets)
        return Split(source, shuffled(items), shards), []
    if truth.synsets:
        labels, notes = _by_numbers(val, truth.synsets), []
    else:
        labels, notes = _by_solution(place, val)
    label_of = {synset: label for label, synset in enumerate(synsets)}
    if unknown := sorted({*labels.values()} - label_of.keys()):
        images = sum(label in unknown for label in labels.values())
        raise DataError(
            f"{val} has {count(images, 'image')} of "
            f"{count(len(unknown), 'class', 'classes')} that train does not hold, for "
            f"one {unknown[0]}: take them out"
        )
    items = [
        Item(name, label_of[labels[name]], 0, size)
        for name, size in val.folder.images
        if name in labels
    ]
    return Split(Folder(str(val)), shuffled(items), shards), notes


def _by_numbers(val: Place, truth: Sequence[str]) -> Mapping[str, str]:
    names = [name for name, _ in val.folder.images]
    if len(names) != len(truth):
        raise DataError(
            f"{val} holds {len(names)} images, but --labels {len(truth)} labels: are "
            "both whole?"
        )
    return {name: imagenet.synset_of(name, truth, str(val)) for name in names}


def _by_solution(place: Place, val: Place) -> tuple[Mapping[str, str], list[str]]:
    table = known_layouts.find_beside(place, known_layouts.SOLUTION)
    if table is None:
        raise DataError(
            f"{val} holds images without labels: give the development kit by --labels, "
            f"or put Kaggle's {known_layouts.SOLUTION} beside"
        )
    found = known_layouts.match_solution(table, val)
    labels = {path.rpartition("/")[2]: row.label for path, row in found.rows.items()}
    notes, images = [*found.notes], len(val.folder.images)
    if images > len(labels):
        without = count(images - len(labels), "image")
        notes.append(f"left out {without} of {val} without a label")
    return labels, notes
