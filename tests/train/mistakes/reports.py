"""Reports of made-up evaluations, for the tests of what is made of them."""

import numpy as np

from train.mistakes import report
from train.mistakes.outcomes import Outcomes
from train.mistakes.pictures import Picture

SCORES = {
    "checkpoint": "run/ckpt-8",
    "eval_data": "photos",
    "eval_split": "validation",
    "eval_data_dir": "data/photos",
    "eval_skipped_records": 0,
}


def outcomes_of(*images):
    """Images as (label, right or not, [(class, probability), ...])."""
    labels = np.array([label for label, _, _ in images], np.int64)
    right = np.array([right for _, right, _ in images], bool)
    tops = np.array([top for _, _, top in images], float)
    tops = tops.reshape(len(images), -1, 2) if images else np.zeros([0, 2, 2])
    guesses, shares = tops[..., 0].astype(np.int64), tops[..., 1].astype(np.float32)
    predicted = np.where(right, labels, guesses[:, 0])
    return Outcomes(np.arange(len(images)), labels, predicted, guesses, shares)


def image(label, guess, probability, second=None):
    other = int(not guess) if second is None else second
    top = [(guess, probability), (other, 1 - probability)]
    return label, label == guess, top


# Three circles, two squares; of no triangle there is an image.
NAMES = ["circle", "square", "triangle"]
FIVE = (
    image(0, 0, 0.75),
    image(0, 1, 0.75),
    image(0, 1, 0.875),
    image(1, 1, 0.5),
    image(1, 2, 0.75, second=1),
)


def picture(colour=200, file="circle/1.jpg", side=100):
    pixels = np.full([side, 2 * side, 3], colour, np.uint8)
    return Picture(
        "validation-00000-of-00001, record 4", file, pixels, pixels[:, :side]
    )


def make(outcomes, names=NAMES, *, most=24, pictures=None, **scores):
    chosen = outcomes.worst(most).tolist()
    return report.make(
        outcomes,
        names,
        SCORES | scores,
        network="tiny, 32 px",
        chosen=chosen,
        pictures=[None] * len(chosen) if pictures is None else pictures,
    )
