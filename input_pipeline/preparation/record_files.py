"""Which files of a folder are TFRecords, and of which split, by their names."""

import collections
import dataclasses
import fnmatch
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf

from common import files, gfiles, storage_errors
from common.console import count
from input_pipeline.errors import DataError
from input_pipeline.preparation import record_content

# The names that this project writes; then the split may have any name.
_OURS = re.compile(r"(\w+)-\d{5}-of-\d{5}")
_NUMBERED = re.compile(r"(\d+)-of-(\d+)")
_ENDING = r"\.(tfrecords?|tfrec|tfr|records?|array_record)"
LOOKS_LIKE_ONE = re.compile(
    rf".*\d+-of-\d+|.*{_ENDING}([-_.]?\d+)?(\.gz|\.zlib|\.zz)?|.*{_ENDING}-\d+-of-\d+",
    re.IGNORECASE | re.DOTALL,
)
# Numbers of files, which differ within a set; not those of a data set's name.
_NUMBER = re.compile(r"(?i)(?:(?<![a-z0-9])|(?<=shard)|(?<=part)|(?<=file))\d+")
_SPLITS = {
    "train": ("train", "training", "trn", "trainset"),
    "validation": ("validation", "val", "valid", "dev", "eval", "valset"),
    "test": ("test", "testing", "tst", "testset"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_MOST_OPENED = 100  # files of other names, to see whether they are TFRecords
_MOST_SEARCHED = 1000  # folders below the one that is named


# Of each split the sets of files, by the name that theirs have in common.
_Sets = dict[str, dict[str, list[str]]]


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """The TFRecords of a folder.

    Attributes:
      splits: the files of each, in order, relative to the folder.
      notes: on files of which something was left out.
    """

    splits: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def command(source: str, *flags: str) -> str:
    """Return the command of a person who describes this folder with some flags."""
    words = [f"--source={source}", *flags]
    return "python -m input_pipeline.prepare tfrecords " + shlex.join(words)


def flags(patterns: Mapping[str, str]) -> str:
    """Return the flags that take the files of some splits by these patterns."""
    return " ".join(
        f"--split {shlex.quote(f'{split}={pattern}')}"
        for split, pattern in patterns.items()
    )


def find(source: str) -> RecordFiles:
    """Return the splits that the names of files and of folders below tell.

    Raises:
      DataError: there is none, or files of two sets, or not all of a set.
    """
    sets, rest = _sets(record_names(source))
    if not sets:
        raise DataError(_untold(source, rest) if rest else _nothing(source))
    splits = {}
    for of_split in sets.values():
        rest += _take_out_others(of_split, source)
        first = next(iter(of_split.values()))[0]
        split = split_of(first) or _told(first) or ""
        splits[split] = _only_set(split, of_split, source)
    return RecordFiles(dict(sorted(splits.items())), left_out(rest))


def _sets(names: Sequence[str]) -> tuple[_Sets, list[str]]:
    """Return the sets of files of each split, and the files of none."""
    sets: _Sets = collections.defaultdict(lambda: collections.defaultdict(list))
    rest = []
    for name in names:
        if split := split_of(name):
            # "Train" or "val" are no other splits than "train" and "validation".
            kind = _SPLIT_OF.get(split.lower(), split.lower())
            sets[kind][set_of(name)].append(name)
        else:
            rest.append(name)
    by_name = set(sets)
    for name in tuple(rest):
        kind = _told(name)  # by "train.bin", where nothing is called better
        if kind and kind not in by_name:
            sets[kind][set_of(name)].append(name)
            rest.remove(name)
    return sets, rest


def _take_out_others(sets: dict[str, list[str]], source: str) -> list[str]:
    """Take out sets, where there are several, of no TFRecords, as DALI's indices."""
    if len(sets) == 1:
        return []
    records = {
        one
        for one, names in sets.items()
        if any(_may_be_one(tf.io.gfile.join(source, name)) for name in names)
    }
    others = set(sets) - records if records else set()
    return [name for one in others for name in sets.pop(one)]


def _may_be_one(path: str) -> bool:
    """Whether a file begins like a TFRecord, or is empty, as by a copy cut off."""
    return _begins_like_one(path) or not tf.io.gfile.stat(path).length


def choose(source: str, patterns: Mapping[str, str]) -> RecordFiles:
    """Return the splits of which a person gives the patterns.

    Raises:
      DataError: a pattern matches nothing, or two match one file.
    """
    names = list_files(source)
    splits, notes, taken = {}, [], {}
    for split, pattern in patterns.items():
        inside = pattern.removeprefix(f"{source.rstrip('/')}/")
        found = [name for name in names if _matches(name, inside)]
        if not found:
            near = record_names(source)[:3]
            there = f": there are {', '.join(near)} ..." if near else ""
            raise DataError(
                f"no file of {source} matches {pattern!r} of {split}{there}"
            )
        for name in found:
            if name in taken:
                raise DataError(
                    f"{name} is of {taken[name]} and of {split}: give patterns to "
                    "--split of which only one matches it"
                )
            taken[name] = split
        splits[split] = tuple(sorted(found, key=_order))
        for of_set, total, _, missing in _numbering(splits[split]):
            if missing:
                notes.append(f"{split}: {missing} of {total} files {of_set} are absent")
    rest = [name for name in record_names(source) if name not in taken]
    return RecordFiles(splits, (*notes, *left_out(rest)))


def left_out(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note on files that look like TFRecords and are not used, if any."""
    if not names:
        return ()
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"left out: {', '.join(names[:3])}{more}, of no split that is described; "
        "--split NAME=PATTERN takes what it names",
    )


def record_names(source: str) -> list[str]:
    """Return the names of what looks like a TFRecord, or begins like one."""
    found, others = [], []
    for name in list_files(source):
        looks = LOOKS_LIKE_ONE.fullmatch(os.path.basename(name))
        (found if looks else others).append(name)
    for name in others[:_MOST_OPENED]:
        if _begins_like_one(tf.io.gfile.join(source, name)):
            found.append(name)
    return sorted(found)


def split_of(name: str) -> str | None:
    """Return the split of a file, None where its name tells none, or several."""
    folder, _, last = name.rpartition("/")
    ours = _OURS.fullmatch(last)
    if ours and folder.lower() not in _SPLIT_OF:
        return ours[1]
    looks = LOOKS_LIKE_ONE.fullmatch(last) or last.lower() in _SPLIT_OF
    return _told(name) if looks else None


def _told(name: str) -> str | None:
    """Return the split of which alone there is a word in a name or its folder's."""
    folder, _, last = name.lower().rpartition("/")
    words = (*re.findall(r"[a-z]+", last), folder)
    told = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    return told.pop() if len(told) == 1 else None


def list_files(source: str) -> list[str]:
    """Return the files of a folder and of the folders in it, relative, sorted.

    Raises:
      DataError: it is no folder, or one of them cannot be looked into.
    """
    if not tf.io.gfile.isdir(source):
        what = (
            "a file: name the folder that it lies in" if gfiles.exists(source) else ""
        )
        raise DataError(
            f"{source} is {what}"
            if what
            else f"there is no folder {source}: name one with --source"
        )
    found = []
    for name in _entries(source):
        path = tf.io.gfile.join(source, name)
        if _OURS.fullmatch(name) or not tf.io.gfile.isdir(path):
            found.append(name)
        else:
            found += [
                f"{name}/{below}"
                for below in _entries(path)
                if _OURS.fullmatch(below)
                or not tf.io.gfile.isdir(tf.io.gfile.join(path, below))
            ]
    return sorted(found)


def _entries(folder: str) -> list[str]:
    try:
        names = gfiles.names(folder)
    except tf.errors.OpError as error:
        what = f"cannot look into {folder}"
        raise storage_errors.cannot_read(
            folder, error, what=what, mistake=DataError
        ) from None
    shown = sorted(name for name in names if name and not name.startswith("."))
    for name in itertools.filterfalse(gfiles.is_utf8, shown):
        if LOOKS_LIKE_ONE.fullmatch(name):
            raise DataError(
                f"{folder} holds {os.fsencode(name)!r}, whose name is not UTF-8: "
                "rename it, or move it away"
            )
    return list(filter(gfiles.is_utf8, shown))


def _begins_like_one(path: str) -> bool:
    """Whether the first record of a file can be read."""
    local = gfiles.local_path(path)
    if local is not None and files.kind(local, follow_links=True) != files.FILE:
        return False  # to open a pipe would wait for ever
    first = tf.data.TFRecordDataset(path).take(1)
    try:
        return bool(list(first.as_numpy_iterator()))
    except tf.errors.OpError as error:
        storage_errors.why_unreadable(path, error)  # a busy bucket tells nothing
        return False


def set_of(name: str) -> str:
    """Return the name with * for what differs between the files of one set."""
    if numbered := _NUMBERED.search(name):
        return f"{name[: numbered.start(1)]}*{name[numbered.end(1) :]}"
    folder, slash, last = name.rpartition("/")
    head, word, tail = _at_split(last)
    star = re.sub(r"\d+", "*", tail) if word else _NUMBER.sub("*", tail)
    return f"{folder}{slash}{head}{word}{star}"


def _at_split(last: str) -> tuple[str, str, str]:
    """Return what stands before the word that tells the split, it, and the rest."""
    for word in re.finditer(r"[a-zA-Z]+", last):
        if word[0].lower() in _SPLIT_OF:
            return last[: word.start()], word[0], last[word.end() :]
    return "", "", last


def _only_set(
    split: str, sets: Mapping[str, Sequence[str]], source: str
) -> tuple[str, ...]:
    """Return the files of the one set of a split, all of them."""
    if len(sets) > 1:
        raise DataError(
            f"{source} holds files of several sets named {split}: "
            f"{' and '.join(sorted(sets))}: move all but one set elsewhere, or choose: "
            f"{flags({split: min(sets)})}"
        )
    found = tuple(sorted(next(iter(sets.values())), key=_order))
    for name, total, beyond, missing in _numbering(found):
        if missing:
            raise DataError(
                f"{source} lacks {missing} of {total} {split} files (the first is "
                f"{_first_missing(found)}): copy them there, or take those that there "
                f"are, {flags({split: name})}"
            )
        if beyond:
            raise DataError(
                f"{source} holds {count(beyond, 'file')} more than the {total} of "
                f"{name}, the last is {found[-1]}: move what is of another set away"
            )
    return found


def _numbering(names: Iterable[str]) -> Iterator[tuple[str, int, int, int]]:
    """Yield of each set its name, its size, the files beyond it, and those missing."""
    sets = collections.defaultdict(set)
    for name in names:
        if numbered := _NUMBERED.search(name):
            sets[set_of(name), int(numbered[2])].add(int(numbered[1]))
    for (name, total), numbers in sets.items():
        begin = _begin(numbers, total)
        inside = sum(begin <= number < begin + total for number in numbers)
        yield name, total, len(numbers) - inside, total - inside


def _begin(numbers: set[int], total: int) -> int:
    """Return the number of the first of so many files; some count from 1."""
    return 1 if 0 not in numbers and total in numbers else 0


def _first_missing(names: Sequence[str]) -> str:
    numbered = [_NUMBERED.search(name) for name in names]
    there = {int(one[1]) for one in numbered if one}
    begin = _begin(there, int(numbered[0][2])) if numbered[0] else 0
    number = next(n for n in itertools.count(begin) if n not in there)
    begin, end = numbered[0].span(1) if numbered[0] else (0, 0)
    return f"{names[0][:begin]}{number:0{end - begin}d}{names[0][end:]}"


def _order(name: str) -> tuple:
    """Sort by number where there is one."""
    numbered = _NUMBERED.search(name)
    return (set_of(name), int(numbered[1]), name) if numbered else (name, 0, name)


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.removeprefix("./").split("/")
    return len(parts) == len(patterns) and all(
        map(fnmatch.fnmatchcase, parts, patterns)
    )


def _untold(source: str, names: Sequence[str]) -> str:
    """Say what there is, and with which flags it is taken."""
    patterns = sorted({set_of(name) for name in names})
    endings = {os.path.splitext(name)[1] for name in names}
    if len(endings) == 1 and "" not in endings and not any("/" in n for n in names):
        patterns = [f"*{endings.pop()}"]
    others = count(len(patterns) - 1, "other set")
    more = f" and {others}" if len(patterns) > 1 else ""
    first = tf.io.gfile.join(source, names[0])
    fields = record_content.named(record_content.peek(first)[0])
    holds = count(record_content.count_records(first), "record")
    above = ""
    if os.path.basename(source.rstrip("/")).lower() in _SPLIT_OF:
        folder = os.path.dirname(source.rstrip("/")) or "."
        above = f", or name the folder of all splits, --source={shlex.quote(folder)}"
    return (
        f"{source} holds {count(len(names), 'file')} named {patterns[0]}{more}, the "
        f"first of {holds} with the fields {fields}, and nothing tells their split: "
        f"add {flags({'train': patterns[0]})}{above}"
    )


def _nothing(source: str) -> str:
    """Say what there is in place of TFRecords, or where they are."""
    if below := _below(source):
        return f"{source} holds no TFRecords, but {below} does: {command(below)}"
    names = list_files(source)
    endings = collections.Counter(os.path.splitext(name)[1].lower() for name in names)
    if not endings:
        return f"{source} is empty: name another folder with --source"
    ending, number = endings.most_common(1)[0]
    what = f"{count(number, 'file')} named *{ending}" if ending else f"{names[0]}, ..."
    way = _WAYS.get(ending, "write TFRecords, or images for prepare imagefolder")
    return (
        f"{source} holds no TFRecords named like train-00000-of-01024, but {what}: "
        f"{way}"
    )


_IMAGES = "python -m input_pipeline.prepare imagefolder takes folders of images"
_WAYS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"), _IMAGES),
    ".tar": "python -m input_pipeline.prepare imagenet takes ImageNet's; unpack others",
    **dict.fromkeys((".zip", ".tgz", ".gz"), "unpack them"),
}


def _below(source: str) -> str | None:
    """Return the first folder deeper down that holds what looks like TFRecords."""
    folders, seen = collections.deque([source]), 0
    while folders and seen < _MOST_SEARCHED:
        folder, seen = folders.popleft(), seen + 1
        for name in _entries(folder):
            path = tf.io.gfile.join(folder, name)
            if LOOKS_LIKE_ONE.fullmatch(name) and not tf.io.gfile.isdir(path):
                return folder
            if tf.io.gfile.isdir(path):
                folders.append(path)
    return None
