"""Answers as tpu_compiler.worker does, without a compiler: as the module's text says.

The first word of the module: what to do. LOG, beside this process's environment: what
was asked, one line a request, and the process that was.
"""

import gzip
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

HLO = """\
HloModule fake

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %y = f32[8]{0} tanh(%x), backend_config={"estimated_cycles":"940"}
}
"""
OUT_OF_MEMORY = {
    "large": "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, "
    "the total memory required for HLO temporaries (32.00G) exceeds available HBM "
    "(15.48G).",
    "tight": "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent "
    "error. Ran out of memory in memory space hbm. Used 15.48G of 15.48G hbm. Exceeded "
    "hbm capacity by 1.0M.",
}
LAST_LINE = {
    "exit": "ModuleNotFoundError: No module named 'jax'",
    "full": "OSError: [Errno 28] No space left on device",
}
LARGEST = {
    "bytes": 2**34,
    "shape": "tensor<65536x65536xf32>",
    "op": "stablehlo.tanh",
    "location": 'loc("head/Tanh")',
}
MEMORY = {
    "arguments": 100,
    "outputs": 90,
    "aliased": 80,
    "temporaries": 7,
    "generated_code": 3,
    "peak": 117,
}


def compiled(request, text=HLO):
    Path(request["hlo"]).write_bytes(gzip.compress(text.encode(), mtime=0))
    return {"memory": MEMORY, "dynamic": [], "seconds": 1.5}


def answer(word, request):
    print("noise that is no answer", file=sys.stderr, flush=True)
    if word == "compile":
        return compiled(request)
    if word == "slow":
        time.sleep(0.3)
        return compiled(request)
    if word in OUT_OF_MEMORY:
        rejection = OUT_OF_MEMORY[word]
        return {"rejection": rejection, "largest": [LARGEST], "seconds": 1.0}
    if word == "dynamic":
        found = {"op": "stablehlo.tanh", "location": 'loc("stem/Tanh")'}
        return {"rejection": "a dynamic shape", "seconds": 1.0, **found}
    if word == "hang":
        time.sleep(60)
    if word == "killed":
        compiled(request)  # an HLO without an answer
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "abort":
        print("F1125 10:06:07.7 31879 shape.cc:8] Check failed: !x", file=sys.stderr)
        print("*** SIGABRT ***", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    if word in LAST_LINE:
        print(LAST_LINE[word], file=sys.stderr)
        sys.exit(1)
    return {"error": "INVALID_ARGUMENT: no such topology\nmore", "seconds": 0.0}


def read(requests):
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def main():
    log = Path(sys.argv[1])
    requests = queue.SimpleQueue()
    threading.Thread(target=read, args=(requests,), daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    while True:
        request = json.loads(requests.get())
        text = Path(request["module"]).read_text()
        entry = {
            "module": text,
            "pid": os.getpid(),
            "session": os.getsid(0),
            "environment": dict(os.environ),
        }
        with log.open("a") as file:
            file.write(json.dumps(request | entry) + "\n")
        print(json.dumps(answer(text.split()[0], request)), flush=True)


if __name__ == "__main__":
    main()
