from train.mistakes import confusion
from train.mistakes.confusion import Confusion

COUNTS = {
    ("cat", "cat"): 3,
    ("cat", "dog"): 2,
    ("cat", "eel"): 2,
    ("dog", "cat"): 2,
    ("ape", "dog"): 1,
}


def test_classes_as_they_were_taken():
    found = confusion.classes(COUNTS, ["eel", "dog", "cat"])
    assert [one.name for one in found] == ["eel", "dog", "cat", "ape"]
    assert [one.images for one in found] == [0, 2, 7, 1]
    assert [one.right for one in found] == [0, 0, 3, 0]
    assert [one.taken for one in found] == [2, 3, 5, 0]
    assert [one.accuracy for one in found] == [None, 0, 3 / 7, 0]
    assert [one.precision for one in found] == [0, 0, 3 / 5, None]
    assert found[2].wrong() == [("dog", 2), ("eel", 2)]
    assert [one.name for one in confusion.worst_first(found)] == ["dog", "ape", "cat"]


def test_the_most_frequent_first_then_by_the_classes():
    found = confusion.classes(COUNTS, ["eel", "dog", "cat"])
    assert confusion.confusions(found) == [
        Confusion("dog", "cat", 2),
        Confusion("cat", "eel", 2),
        Confusion("cat", "dog", 2),
        Confusion("ape", "dog", 1),
    ]
    assert confusion.matrix(found[1:3], ["cat", "ape"]) == [[2, 0], [3, 0]]
