"""Sources of a scaling search that cost nothing, by name for gin files."""

from models import scaling


def _size(variant):
    repeats = sum(
        scaling.round_repeats(stage.num_repeat, variant.depth_coefficient)
        for stage in variant.stages
    )
    return repeats / 16, variant.width_coefficient, variant.resolution / 224


def milliseconds(variant):
    """Return what grows with depth, width and pixels."""
    depth, width, resolution = _size(variant)
    return 10 * depth * (0.5 * width**2 + 0.5 * width) * resolution**2


def half_again(variant):
    """Return half as much again, so that the cheap source is wrong."""
    return 1.5 * milliseconds(variant)


def top1(variant, rung):
    """Return what grows with every axis, and less and less."""
    return 96 - sum(5 / size for size in _size(variant))


CONFIG = """
from __gin__ import dynamic_registration
from search import accuracy_sources
from search import axes
from search import latency_sources
from search import scaling_search

scaling_search.Scaling:
  name = 'toy-b'
  base = 'efficientnet-x-b0'
  targets = [20.0, 'efficientnet-x-b3']
  cheap = @latency_sources.function()
  accuracy = @accuracy_sources.function()
  trust = @axes.TrustRegion()
  references = ['efficientnetv2-b0']
axes.TrustRegion.width_step = 0.2
axes.TrustRegion.resolution_step = 32
latency_sources.function.name = 'tests.support.toy_lacs:milliseconds'
accuracy_sources.function.name = 'tests.support.toy_lacs:top1'
"""
