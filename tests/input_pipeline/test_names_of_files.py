import io

import numpy as np
from PIL import Image

from input_pipeline import dataset_info, prepare
from input_pipeline.dataset import eval_dataset
from tests.support.commands import status

CLASSES = ["coquelicot & co", "l'\xe9t\xe9 [2]", "\u043c\u0430\u043a {x} $y"]


def test_names_of_any_alphabet(tmp_path, capsys):
    """Accents, Cyrillic, spaces, an apostrophe, brackets and what shells read."""
    rng = np.random.default_rng(0)
    source = tmp_path / "\xe9t\xe9 \xe0 l'\u0153uvre"
    for name in CLASSES:
        (source / name).mkdir(parents=True)
        for number in range(4):
            file = io.BytesIO()
            pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(file, "JPEG")
            (source / name / f"photo ({number}).jpg").write_bytes(file.getvalue())
    output = tmp_path / "donn\xe9es d'\xe9t\xe9"
    flags = f"--source={source}", f"--output={output}", "--validation_fraction=0.25"
    assert status(prepare.main, "imagefolder", *flags, "--workers=1") == 0
    assert "9 train records, 3 validation records" in "".join(capsys.readouterr())
    info = dataset_info.load_info(str(output))
    assert sorted(info.label_names) == sorted(CLASSES)
    batches = eval_dataset(data_dir=str(output), resolution=16, batch_size=3)
    (batch,) = batches
    assert sorted(batch["label"].numpy()) == [0, 1, 2]
