"""Data of preflight's tests."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import dataset_info, records


@pytest.fixture(scope="session")
def greys(tmp_path_factory) -> str:
    """40 pictures, picture i as grey as 6 * i and of a size that nothing else has."""
    folder = tmp_path_factory.mktemp("greys")
    examples = [
        records.make_example(
            tf.io.encode_jpeg(np.full([20 + i, 30, 3], 6 * i, np.uint8)).numpy(),
            label=1 + i % 3,
            height=20 + i,
            width=30,
            filename=f"{i}.JPEG",
            synset="",
            text="",
        )
        for i in range(40)
    ]
    splits = {
        name: dataset_info.SplitInfo(
            tuple(
                records.write_shard(
                    str(folder / f"{name}-{k}"), examples[20 * k : 20 * k + 20]
                )
                for k in range(2)
            )
        )
        for name in ("train", "validation")
    }
    names = ("ash", "slate", "chalk")
    dataset_info.write_info(
        dataset_info.DatasetInfo("greys", 1, names, splits), str(folder)
    )
    return str(folder)
