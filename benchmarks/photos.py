"""Write JPEGs of ImageNet's usual size, to measure where there is no ImageNet.

    python -m benchmarks.photos --output DIR
    python -m input_pipeline.prepare imagefolder --source DIR --output data/photos

Crops of the two photographs that scikit-learn ships, 500 x 375 pixels in about 110 kB,
ImageNet's averages. Good for the cost of preprocessing, which hardly depends on what is
in the picture; worthless for training.
"""

import argparse
import io
import pathlib
import sys

from common import cli, extras, files
from common.errors import UserError

_WIDTH, _HEIGHT = 500, 375
_QUALITY = 97


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.photos", __doc__)
    parser.add_argument(
        "--output", type=cli.path, required=True, help="a new folder, or an empty one"
    )
    parser.add_argument("--images", type=cli.positive, default=512)
    return parser


@cli.command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Write the crops."""
    output = pathlib.Path(arguments.output)
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} is not empty; name a new folder by --output")
    extras.require("sklearn", task="benchmarks.photos")
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    random = np.random.RandomState(0)
    for number in range(arguments.images):
        label = number % len(photos)
        photo = photos[label]
        scale = random.uniform(0.79, 1)
        width, height = scale * photo.width, scale * photo.width * _HEIGHT / _WIDTH
        left = random.uniform(0, photo.width - width)
        top = random.uniform(0, max(photo.height - height, 0))
        crop = photo.resize(
            (_WIDTH, _HEIGHT),
            Image.Resampling.BICUBIC,
            (left, top, left + width, min(top + height, photo.height)),
        )
        folder = output / ("temple", "flower")[label]
        folder.mkdir(parents=True, exist_ok=True)
        jpeg = io.BytesIO()
        crop.save(jpeg, "JPEG", quality=_QUALITY)
        files.write_bytes(folder / f"{number:05d}.jpg", jpeg.getvalue())
    print(f"wrote {arguments.images} photos to {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
