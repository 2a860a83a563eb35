from docgen.formats import formats
from tests.docgen.test_tables import cells


def row(form, size, top1, same, logits, shares, time, **more):
    return {
        "form": form,
        "bytes": size,
        "images": 1000,
        "labelled": 0 if top1 is None else 1000,
        "top1": top1,
        "same_class": same,
        "sure": 990,
        "same_class_of_sure": same - 10,
        "largest_logit_difference": logits,
        "largest_probability_difference": shares,
        "milliseconds": time,
        **more,
    }


REPORT = {
    "benchmark": "formats",
    "networks": [
        {
            "network": "digits",
            "forms": [
                row("savedmodel", 4_567_890, 0.978, 1000, 0.0, 0.0, 9.234),
                row(
                    *("litert-int8", 708_000, 0.977, 998, 49.13, 0.21, 0.0612),
                    calibration_images=300,
                ),
            ],
        },
        {
            "network": "lite0",
            "forms": [
                row("savedmodel", 20_000_000, None, 1000, 0.0, 0.0, 21.0),
                row("onnx", 18_601_000, None, 1000, 1.4e-5, 2e-6, 18.7),
            ],
        },
    ],
}


def test_formats():
    text = formats(REPORT, "the note")
    head = [
        *("form", "kB", "top-1 %", "same class", "of the sure"),
        *("logits", "probabilities", "ms"),
    ]
    found = cells(text)
    assert found[0] == head == found[4]
    whole = ["1,000 of 1,000", "990 of 990"]
    assert found[2:4] == [
        ["`savedmodel`", "4,568", "97.8", *whole, "0", "0", "9.23"],
        [
            *("`litert-int8`", "708", "97.7", "998 of 1,000", "988 of 990"),
            *("5e+01", "0.2", "0.0612"),
        ],
    ]
    assert found[6:] == [
        ["`savedmodel`", "20,000", "-", *whole, "0", "0", "21.0"],
        ["`onnx`", "18,601", "-", *whole, "1e-05", "2e-06", "18.7"],
    ]
    assert "Digits, 1,000 images, int8 calibrated on 300 others; " in text
    assert (
        "Lite0, 1,000 pictures of no known class, int8 calibrated on 0 others" in text
    )
    assert text.endswith("\n\nthe note")
