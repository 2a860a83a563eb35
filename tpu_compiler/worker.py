"""The process that compiles for TPUs what it is asked to.

Reads one request a line from stdin and answers each with one line on stdout, both JSON;
the first line on stdout says that it is ready. At the end of stdin the process ends, in
the midst of a compilation, too. Runs with the Python of the compiler's environment, by
tpu_compiler.process; no other module of the project imports it.

A request: {"module": path, "topology": name, "chip_config": name or null,
"num_replicas": number, "hlo": path}. The answer to it has one of

  "memory": bytes by kind. It compiled; the optimised HLO is at that path, by gzip.
    "dynamic" lists what has a size that depends on values, with its bound.
  "rejection": text. The compiler, or a look at the module beforehand, rejected it. "op"
    and "location" name what is to blame where that is known, "largest" the largest
    tensors of the module.
  "error": text. The request itself cannot be served.
"""

import contextlib
import gzip
import heapq
import itertools
import json
import math
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import jax
import jaxlib.mlir.dialects.stablehlo as stablehlo
import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies

_BYTECODE = b"ML\xefR"
_LARGEST = 10  # tensors that are named at most


class Rejection(Exception):  # noqa: N818 - an answer, no error
    """The module is not fit for a TPU, as far as can be seen without compiling it."""

    def __init__(self, text: str, op: str | None = None, location: str | None = None):
        super().__init__(text)
        self.op, self.location = op, location


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request."""
    started = time.monotonic()
    try:
        devices = topologies.get_topology_desc(
            topology_name=request["topology"],
            platform="tpu",
            **_chip_config(request["chip_config"]),
        ).devices
    except jax.errors.JaxRuntimeError as error:
        return {"error": f"no TPU slice {request['topology']}: {error}"}
    context = mlir.make_ir_context()
    context.allow_unregistered_dialects = True
    with context:
        result = _compile(request, devices[: request["num_replicas"]])
    return result | {"seconds": time.monotonic() - started}


def _chip_config(name: str | None) -> dict[str, str]:
    return {} if name is None else {"chip_config_name": name}


def _compile(request: dict[str, Any], devices: list) -> dict[str, Any]:
    """Compile the module of a request for one replica on each of the devices."""
    try:
        module = _load(request["module"])
        _erase_copies(module)
        _check(module)
    except Rejection as rejection:
        return {
            "rejection": str(rejection),
            "op": rejection.op,
            "location": rejection.location,
        }
    largest, dynamic = _largest(module), _dynamic(module)
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = len(devices), 1
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.array([[device.id] for device in devices])
    )
    try:
        executable = devices[0].client.compile(
            module, xla_client.DeviceList(tuple(devices)), options
        )
    except jax.errors.JaxRuntimeError as error:
        return {"rejection": str(error), "largest": largest}
    text = executable.hlo_modules()[0].to_string()
    # No time stamp: what is equal has equal bytes.
    with open(request["hlo"], "wb") as file:
        file.write(gzip.compress(text.encode(), compresslevel=6, mtime=0))
    memory = _memory(executable.get_compiled_memory_stats())
    return {"memory": memory, "dynamic": dynamic}


def _load(path: str) -> Any:
    """Read a module: text, bytecode or a portable artifact."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        if data.startswith(_BYTECODE):
            with contextlib.suppress(ValueError):  # which does not say why
                return stablehlo.deserialize_portable_artifact(ir.Context.current, data)
        return ir.Module.parse(data)
    except (ir.MLIRError, ValueError) as error:
        raise _not_stablehlo(" ".join(str(error).split())) from error


def _not_stablehlo(reason: str) -> Rejection:
    """Return what is wrong with a module that cannot be read."""
    unknown = re.search(r"error: (\S.*?): unregistered operation '([\w.]+)'", reason)
    if unknown is None:
        return Rejection(f"not a StableHLO module: {reason}")
    sizes = re.search(r"tensor<[^<>]*\?[^<>]*(?:<[^<>]*>)?>", reason)
    shape = f" of a dynamic shape, {sizes[0]}" if sizes else ""
    return Rejection(
        f"an operation{shape} that is not part of StableHLO, so XLA cannot compile it",
        unknown[2],
        f"loc({unknown[1]})",
    )


def _operations(module: Any) -> Iterator[Any]:
    """Yield all operations, outer ones first."""
    pending = [module.operation]
    while pending:
        operation = pending.pop()
        yield operation
        inner = [
            child.operation
            for region in operation.regions
            for block in region.blocks
            for child in block.operations
        ]
        pending += reversed(inner)


def _erase_copies(module: Any) -> None:
    """Take out TensorFlow's mhlo.copy, which does nothing and which XLA refuses."""
    for copy in [op for op in _operations(module) if op.name == "mhlo.copy"]:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


def _check(module: Any) -> None:
    """Reject what the compiler rejects without a name, or dies of."""
    for operation in _operations(module):
        name, location = operation.name, str(operation.location)
        if not ir.Context.current.is_registered_operation(name):
            raise Rejection(
                "an operation that is not part of StableHLO, so XLA cannot compile it",
                name,
                location,
            )
        for value in operation.results:
            _check_shape(value.type, name, location)
    for operation in _operations(module):
        for region in operation.regions:
            for block in region.blocks:
                for value in block.arguments:
                    location = str(operation.location)
                    _check_shape(value.type, f"{operation.name}, an argument", location)


def _check_shape(type_: Any, name: str, location: str) -> None:
    if "?" in (text := str(type_)) and "bounds<" not in text:
        raise Rejection(
            f"a dynamic shape, {text}: a TPU needs to know every size beforehand",
            name,
            location,
        )


def _dynamic(module: Any) -> list[dict[str, Any]]:
    """Return the first operations whose results have no fixed size, but a bound."""
    found = (
        {"op": op.name, "shape": str(value.type), "location": str(op.location)}
        for op in _operations(module)
        for value in op.results
        if "bounds<" in str(value.type)
    )
    return list(itertools.islice(found, _LARGEST))


def _largest(module: Any) -> list[dict[str, Any]]:
    """Return the largest tensors that operations make, the largest first."""
    sized = (
        (_bytes(str(value.type)), number, str(value.type), operation)
        for number, operation in enumerate(_operations(module))
        for value in operation.results
    )
    return [
        {"bytes": size, "shape": shape, "op": op.name, "location": str(op.location)}
        for size, _, shape, op in heapq.nlargest(_LARGEST, sized, key=lambda s: s[:2])
    ]


def _bytes(type_: str) -> int:
    """Return the size of a tensor type such as tensor<8x128xbf16>, unpadded."""
    match = re.fullmatch(r"tensor<((?:\d+x)*)(?:[a-z]*?)(\d+)[^>]*>", type_)
    if match is None:
        return 0
    return math.prod(map(int, match[1].split("x")[:-1])) * max(1, int(match[2]) // 8)


def _memory(stats: Any) -> dict[str, int]:
    return {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "generated_code": stats.generated_code_size_in_bytes,
        "peak": stats.peak_memory_in_bytes,
    }


def _read_requests(requests: queue.SimpleQueue) -> None:
    """Hand requests on; ends the process with whoever wrote them."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def main() -> None:
    """Serve until stdin ends."""
    # libtpu writes to stdout: from here on that is stderr, and the protocol's is this.
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # nobody is there to hear
        print(json.dumps({"ready": True}), file=protocol)
        while True:
            print(json.dumps(answer(json.loads(requests.get()))), file=protocol)


if __name__ == "__main__":
    main()
