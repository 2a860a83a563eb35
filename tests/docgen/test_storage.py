from docgen.storage import storage
from tests.docgen.test_tables import cells


def reading(files, what, side, fetched, reads):
    cost = {"fetched": fetched, "reads_per_image": reads}
    return {"files": files, "what": what, "side": side, **cost}


def checkpoint(what, side, fetched, sent, requests):
    cost = {"bytes": 8_317_428, "fetched": fetched, "sent": sent, "requests": requests}
    return {"what": what, "side": side, **cost}


REPORT = {
    "benchmark": "storage",
    "reading": [
        reading("75 MB", "training", "ours", 1.008, 0.127),
        reading("75 MB", "training", "TensorFlow's settings", 17.402, 0.0688),
        reading("138 MB", "evaluation", "ours", 1.0, 0.014),
    ],
    "checkpoint": [
        checkpoint("write", "ours", 1.01, 1.002, 66),
        checkpoint("reader", "ours", 66.812, 0.0, 577),
    ],
    "heartbeat_requests_per_hour": 2160,
    "waiting": {
        "of_what_waiting_allows": 0.617,
        "waiting_allows_images_per_second": {
            "20 ms": {"this machine": 6400, "16 cores or more": 38400}
        },
    },
    "settings": {"record_kb": 104, "tensors": 650},
}


def test_storage():
    text = storage(REPORT, "the note")
    rows = cells(text)
    assert rows[2:5] == [
        ["75 MB: training", "ours", "1.01", "0.127"],
        ["75 MB: training", "TensorFlow's settings", "17.40", "0.0688"],
        ["138 MB: evaluation", "ours", "1.00", "0.0140"],
    ]
    assert ["a checkpoint, written and read back", "ours", "1.01", "1.00", "66"] in rows
    assert rows[-3:] == [
        ["a request waits", "this machine", "16 cores or more"],
        ["---", "---:", "---:"],
        ["20 ms", "6,400", "38,400"],
    ]
    assert "of 8.3 MB and 650 tensors" in text
    assert "2,160 requests an hour" in text
    assert text.endswith(" was 0.62 of that.\n\nthe note")
