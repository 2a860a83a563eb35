"""XLA's TPU compiler as a service, on a machine without a TPU.

    report = tpu_compiler.compile(module, "v3:2x2x1", num_replicas=8)
    report.verdict, report.milliseconds, report.memory, report.collectives

`module` is StableHLO: text, bytecode, or a portable artifact such as TensorFlow's

    step = tf.function(step, jit_compile=True)
    module = step.experimental_get_compiler_ir(*specs)(stage="stablehlo_serialized")

Several at once, in processes that stay alive between them:

    with tpu_compiler.Compiler(workers=2) as compiler:
        futures = [compiler.compile(module, "v5e:2x2") for module in modules]
        reports = [future.result() for future in futures]

The compiler runs in processes of its own with the Python of an environment of its own,
`.venv-tpu-compiler`, which `make tpu-compiler` installs; the environment variable
TPU_COMPILER_PYTHON names another. This package needs Python's standard library alone.

What it says can be trusted to different degrees. That a program compiles and that it
fits is the real compiler's word. The time is the sum of its cycle estimates: a fair
guide to the ratio of two similar programs, a poor one to milliseconds. Collectives and
asynchronous copies have no estimate and are not in the time.
"""

from tpu_compiler.cache import cache_folder
from tpu_compiler.capacity import compilations_at_once
from tpu_compiler.errors import CompilerError, UnusableCompilerError
from tpu_compiler.process import environment
from tpu_compiler.report import CompilerReport
from tpu_compiler.service import Compiler, compile
from tpu_compiler.topology import Topology

__all__ = [
    "Compiler",
    "CompilerError",
    "CompilerReport",
    "Topology",
    "UnusableCompilerError",
    "cache_folder",
    "compilations_at_once",
    "compile",
    "environment",
]
