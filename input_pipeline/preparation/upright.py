"""Photos as their EXIF orientation wants them, in place of as they are stored."""

import dataclasses
from typing import cast

from input_pipeline.preparation.jpeg import Jpeg, to_rgb_jpeg
from input_pipeline.preparation.plan import Item, Pixels, Plan


@dataclasses.dataclass(frozen=True)
class Upright:
    """The images of a source, turned by their EXIF orientation."""

    source: Pixels

    def load(self, item: Item) -> Jpeg:
        """Read and turn one image; raises BadImageError or DataError."""
        return to_rgb_jpeg(self.source.read(item), apply_orientation=True)

    def describe(self, item: Item) -> str:
        """Return what an error calls it."""
        return self.source.describe(item)


def turn_upright(plan: Plan) -> Plan:
    """Return the plan of the same images turned; no file of the two ever mixes.

    Args:
      plan: of image folders or of ImageNet, whose sources are Pixels.
    """
    splits = {
        name: dataclasses.replace(split, source=Upright(cast(Pixels, split.source)))
        for name, split in plan.splits.items()
    }
    return dataclasses.replace(plan, splits=splits, apply_orientation=True)
