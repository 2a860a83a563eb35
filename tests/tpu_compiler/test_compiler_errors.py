"""What is read from the compiler's messages: as libtpu 0.0.52 writes them."""

import pytest

from common.accelerators import TPUS
from tpu_compiler import compiler_errors
from tpu_compiler.compiler_errors import Buffer, Rejection

V3 = TPUS["v3"].hbm_bytes

EARLY = """\
RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total \
memory required for HLO temporaries (32.00G) exceeds available HBM (15.48G). HLO \
module: step.
See https://openxla.org/xla/errors/error_1000 for more details."""

PLANNED = """\
RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. Ran out \
of memory in memory space hbm. Used 16.50G of 15.48G hbm. Exceeded hbm capacity by 1.0G.

Total hbm usage >= 17.02G:
    reserved        530.00M
    program           1.00G
    arguments        15.50G

  Largest program allocations in hbm:

  1. Size: 1.00G
     Operator: op_type="add_any" op_name="stem/Add" source_line=7
     Shape: f32[256,1024,1024]{2,1,0:T(8,128)}
     Unpadded size: 1.00G
     XLA label: fusion
     Allocation type: HLO temp
     ==========================

  2. Size: 512.0K
     Shape: u8[524288]{0}
     Unpadded size: 512.0K
     Allocation type: global
     ==========================

  Largest program arguments and outputs in hbm:

  1. Size: 15.50G
     Shape: f32[15853,1024,256]{2,1,0:T(8,128)}
     XLA label: Argument 0 index {}
     ==========================
"""


def test_out_of_memory_before_planning():
    assert compiler_errors.out_of_memory(EARLY, V3) == 32 * 2**30
    assert compiler_errors.buffers(EARLY) == ()


def test_out_of_memory_after_planning():
    assert compiler_errors.out_of_memory(PLANNED, V3) == round(16.5 * 2**30)
    assert compiler_errors.buffers(PLANNED) == (
        Buffer(round(15.5 * 2**30), "f32[15853,1024,256]{2,1,0:T(8,128)}", ""),
        Buffer(2**30, "f32[256,1024,1024]{2,1,0:T(8,128)}", "stem/Add"),
        Buffer(2**19, "u8[524288]{0}", ""),
    )


def test_what_does_not_fit_needs_more_than_there_is():
    """The compiler's 15.48 GiB are less than the 15854 MiB that it allows."""
    text = PLANNED.replace("Used 16.50G", "Used 15.48G")
    assert round(15.48 * 2**30) < V3
    assert compiler_errors.out_of_memory(text, V3) == V3 + 1


def test_other_messages_are_about_other_things():
    text = "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom: Ran out of memory"
    assert compiler_errors.out_of_memory(text, V3) is None
    message = "CompileTimeScopedVmemOom: Ran out of memory"
    assert compiler_errors.rejection(text) == Rejection(message, "", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "INVALID_ARGUMENT: Custom emitter for tf.Frobnicate not found\n\t\n\n"
            "Suspected Python Code Location:\n"
            "  layers.py:33:1 [stem/Frobnicate] [xla::PythonStackTrace='']",
            Rejection(
                "Custom emitter for tf.Frobnicate not found",
                "tf.Frobnicate",
                "stem/Frobnicate (layers.py:33)",
            ),
        ),
        (
            "INVALID_ARGUMENT: Could not parse the string.\n\t\n\nError encountered "
            "while compiling %Print.3 = (token[], s32[]) outfeed(%Print.2, %after.1), "
            'outfeed_config="foo", metadata={op_name="stem/Print"}.\n\t\n\nSuspected '
            "Python Code Location:\n  <no source information> [xla::Python='']",
            Rejection("Could not parse the string.", "outfeed", "stem/Print"),
        ),
        (
            "INVALID_ARGUMENT: CHLO => [StableHLO+Shape] => StableHLO failed;\n\n"
            'Detailed error from MLIR: <unknown>:0: error: loc("stem/x"): failed to '
            "legalize operation 'mhlo.thing' that was explicitly marked illegal: "
            '%224 = "mhlo.thing"(%223) : (tensor<3xf32>) -> tensor<3xf32>\n',
            Rejection(
                "failed to legalize operation 'mhlo.thing' that was explicitly "
                "marked illegal",
                "mhlo.thing",
                "stem/x",
            ),
        ),
        ("UNIMPLEMENTED: no such thing", Rejection("no such thing", "", "")),
        ("", Rejection("", "", "")),
    ],
)
def test_rejections(text, expected):
    assert compiler_errors.rejection(text) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ('loc("stem/Tanh"("layers.py":33:1))', "stem/Tanh (layers.py:33)"),
        ('loc("stem/Tanh")', "stem/Tanh"),
        ('loc("layers.py":33:1)', "layers.py:33"),
        ('loc("-":4:10)', "line 4 of the module"),
        ('loc("stem"("-":4:10))', "stem (line 4 of the module)"),
        ('loc(fused["a", "b"])', "a"),
        ("loc(unknown)", ""),
        ("<unknown>:0: ", ""),
        ("-:4:10: ", "line 4 of the module"),
    ],
)
def test_locations(location, expected):
    assert compiler_errors.location_of(location) == expected
