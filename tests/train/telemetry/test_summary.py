from train.telemetry import summary


def test_the_line_has_no_lists():
    mistakes = {"page": None, "images": 2, "classes": [{}], "confusion_matrix": {}}
    report = {"steps": 3, "images": {"train": 4}, "mistakes": mistakes}
    short = {"page": None, "images": 2}
    assert summary.line(report) == report | {"mistakes": short}
    assert summary.line({"steps": 3}) == {"steps": 3}
