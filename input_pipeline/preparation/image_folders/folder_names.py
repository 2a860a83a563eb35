"""What the names of folders mean: splits, classes, or what systems leave behind."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

UNLABELLED = "unlabelled"  # a split that no training needs
_SPLITS = {
    "train": "train training trn trainval traindata trainset trainingset treino "
    "treinamento entrenamiento entrenar entrainement apprentissage addestramento "
    "egitim trainingsdaten trainen treningowy treningowe 学習 训练 訓練 학습 훈련 "
    "обучение обучающая тренировка تدريب",
    "validation": "validation validate validating val valid vali dev devel development "
    "eval evaluation valset validset validacao validacion validierung validazione "
    "dogrulama validierungsdaten validar valideren walidacyjny walidacyjne 検証 验证 "
    "驗證 검증 валидация валидационная",
    "test": "test testing tst tests testset testdata holdout teste prueba "
    "testdaten testen testowy testowe 测试 測試 テスト 테스트 тест тестовая اختبار",
    UNLABELLED: "pred predict prediction predictions unlabeled unlabelled unsup "
    "submission inference",
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words.split()}
# They say no more than that there are images: in "train_images", "val_set".
_FILLERS = frozenset(
    {
        *("set", "data", "dataset", "image", "images", "img", "imgs", "split"),
        *("folder", "sample", "samples", "photo", "photos", "pictures", "files"),
    }
)
# What says so in scripts that write no space before it.
_JOINED_FILLER = re.compile("(数据集?|資料集?|集|データ(セット)?|用|데이터셋?|용)+$")
# Folders that stand around classes or beside them, but are hardly one.
_DERIVED = frozenset(
    {
        *("thumbnails", "thumbs", "meta", "metadata", "annotation", "annotations"),
        *("labels", "masks", "trimaps", "segmentation", "segmentations", "imagesets"),
        *("ground_truth", "groundtruth"),
    }
)
_CONTAINERS = _DERIVED | {
    *("image", "images", "img", "imgs", "jpg", "jpeg", "jpegs", "jpegimages", "png"),
    *("data", "dataset"),
}
# In a split they hold images of any class.
_NO_CLASSES = _CONTAINERS | {"all", "unknown", "unlabeled", "unlabelled"}
_JUNK = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "picasa.ini",
        "icon\r",
        "__macosx",
        "__pycache__",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
        "system volume information",
        "temporary items",
        "network trash folder",
    }
)
# Downloads that are not finished, and what editors and exiftool keep.
_COPIES = (
    *("~", ".bak", ".part", ".crdownload", ".tmp"),
    *(".jpg_original", ".jpeg_original", ".png_original"),
)
# Letters of other scripts that look like Latin ones, behind casefold.
_LOOK_ALIKE = str.maketrans(
    "авекмнорстухіјѕԁԛԝαβεικνορτυχ",
    "abekmhopctyxijsdqwabeikvoptux",
)


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or what a system keeps for itself."""
    return name.startswith(".") or name.casefold() in _JUNK


def is_copy(name: str) -> bool:
    """Whether a file is a copy that a program keeps, or half a download."""
    return name.casefold().endswith(_COPIES)


def is_container(name: str) -> bool:
    """Whether a folder's name says "images" or "annotations", as no class is called."""
    return name.casefold() in _CONTAINERS


def is_derived(name: str) -> bool:
    """Whether a folder's name says that it holds what was made of images."""
    return name.casefold() in _DERIVED


def is_no_class(name: str) -> bool:
    """Whether a folder alone in a split seems to hold images of any class."""
    return name.casefold() in _NO_CLASSES or _split(name) is not None


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Return the names that mean splits, each with its split.

    "train" and "Val" do by themselves; "seg_train" and "seg_test" together, as they are
    alike but for the split.
    """
    by_rest: dict[str, dict[str, str]] = {}
    for name in names:
        if found := _split(name):
            by_rest.setdefault(found[1], {})[name] = found[0]
    if "" in by_rest:
        return by_rest[""]
    pairs = [one for one in by_rest.values() if len(set(one.values())) > 1]
    return max(pairs, key=len, default={})


def split_of(name: str) -> str | None:
    """Return the split that a name holds, whatever it says besides."""
    found = _split(name)
    return found and found[0]


def are_split_and_class(names: Iterable[str]) -> bool:
    """Whether each name tells a split and a class, as "train_cats" and "test_dogs"."""
    found = [_split(name) or ("", "") for name in names]
    splits, rests = map(set, zip(*found, strict=True))
    return len(splits) > 1 and len(rests) > 1 and "" not in rests


def half_named(names: Iterable[str]) -> dict[str, str]:
    """Return the splits among names that are alike but for the split that some tell.

    Such as "val_large" of "data_large" and "val_large".
    """
    every = list(names)
    rests = {_rest(_words(name)) for name in every}
    if len(every) < 2 or len(rests) > 1 or "" in rests:
        return {}
    return {name: split for name in every if (split := split_of(name))}


def _split(name: str) -> tuple[str, str] | None:
    """Return the split that a name holds, and what it says besides."""
    words = _words(name)
    splits = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    if len(splits - {UNLABELLED}) > 1 or not splits:
        return None
    return UNLABELLED if UNLABELLED in splits else splits.pop(), _rest(words)


def _rest(words: Sequence[str]) -> str:
    """Return what words say besides a split."""
    silent = (*_FILLERS, *_SPLIT_OF)
    return " ".join(word for word in words if word not in silent and not word.isdigit())


def _words(name: str) -> list[str]:
    """Return the words of a name: of "valSet_2" val, set and 2."""
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).casefold()
    plain = _without_marks(name)
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", name)
    words = re.findall(r"[^\W\d_]+|\d+", plain)
    return [_JOINED_FILLER.sub("", word) or word for word in words]


def _without_marks(text: str) -> str:
    """Return a text without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def distractors(classes: Iterable[str]) -> list[str]:
    """Return the classes that hold what belongs to no class, as Caltech's do."""
    known = re.compile(r"(\d+\.)?(background(_google)?|clutter)", re.IGNORECASE)
    return [name for name in classes if known.fullmatch(name)]


def look_alikes(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that a person takes for one; None if there are none."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_skeleton(name), name)
        if other != name:
            return other, name
    return None


def _skeleton(name: str) -> str:
    """Return what look-alike names have in common.

    A single character may be a class of characters: there, A is not a.
    """
    composed = unicodedata.normalize("NFC", name)
    if len(composed) == 1:
        return composed
    folded = unicodedata.normalize("NFKC", composed).casefold().translate(_LOOK_ALIKE)
    return " ".join("".join(map(_shape, folded)).split())


def _shape(character: str) -> str:
    """Return "" for what has no width, one for all dashes, a space for underscores."""
    category = unicodedata.category(character)
    if category in ("Cf", "Cc") or "\ufe00" <= character <= "\ufe0f":
        return ""
    return {"Pd": "-", "Pc": " "}.get(category, character)


def difference(first: str, second: str) -> str:
    """Return how two names differ, in code points: "U+0061 against U+0430"."""
    begin, end = 0, 0
    shorter = min(len(first), len(second))
    while begin < shorter and first[begin] == second[begin]:
        begin += 1
    while end < shorter - begin and first[-1 - end] == second[-1 - end]:
        end += 1
    parts = (first[begin : len(first) - end], second[begin : len(second) - end])
    return " against ".join(
        " ".join(f"U+{ord(c):04X}" for c in part) or "nothing" for part in parts
    )
