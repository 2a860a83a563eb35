"""Images as a person sees them, in place of as they are stored."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from input_pipeline.preparation.jpeg import BadImageError, Jpeg, to_rgb_jpegs
from input_pipeline.preparation.plan import Item, Pixels, Plan


@dataclasses.dataclass(frozen=True)
class Seen:
    """The images of a source, turned by their EXIF orientation, or put on white."""

    source: Pixels
    apply_orientation: bool = False
    on_white: bool = False

    def load(self, item: Item) -> Jpeg:
        """Read and convert one image; raises BadImageError or DataError."""
        [found] = self.convert([self.read(item)])
        if isinstance(found, BadImageError):
            raise found
        return found

    def read(self, item: Item) -> bytes:
        """Return the bytes of one image; raises BadImageError or DataError."""
        return self.source.read(item)

    def convert(self, files: Sequence[bytes]) -> list[Jpeg | BadImageError]:
        """Do what `load` does with files that were read."""
        return to_rgb_jpegs(
            files, apply_orientation=self.apply_orientation, on_white=self.on_white
        )

    def describe(self, item: Item) -> str:
        """Return what an error calls it."""
        return self.source.describe(item)


def turn_upright(plan: Plan) -> Plan:
    """Return the plan of the same images turned; no file of the two ever mixes.

    Args:
      plan: of image folders or of ImageNet, whose sources are Pixels.
    """
    return _converted(plan, apply_orientation=True)


def put_on_white(plan: Plan) -> Plan:
    """Return the plan of the same images, on white where they are transparent.

    Args:
      plan: see `turn_upright`.
    """
    return _converted(plan, on_white=True)


def _converted(plan: Plan, **how: Any) -> Plan:
    """Return a plan whose sources are converted so; the plan says it, too."""
    splits = {}
    for name, split in plan.splits.items():
        source = split.source
        if not isinstance(source, Seen):
            source = Seen(cast(Pixels, source))
        source = dataclasses.replace(source, **how)
        splits[name] = dataclasses.replace(split, source=source)
    return dataclasses.replace(plan, splits=splits, **how)
