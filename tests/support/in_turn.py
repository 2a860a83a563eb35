"""Commands one after another in a process that loads TensorFlow once.

    python -m tests.support.in_turn '[["train.main", "--model_dir=..."], ...]'

Its graphs are not optimized, as in tests/conftest.py. It says how each ended and what
CPU time that took, and stops at the first that does not end with 0.
"""

import importlib
import json
import os
import sys
import time

if __name__ == "__main__":
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    commands = json.loads(sys.argv[1])
    # Before TensorFlow, which reads its settings of gs:// when it is loaded.
    mains = [importlib.import_module(module).main for module, *_ in commands]
    importlib.import_module("tests.support.tensorflow_settings")
    status = 0
    for main, (module, *arguments) in zip(mains, commands, strict=True):
        began = time.process_time()
        status = main(arguments)
        seconds = time.process_time() - began
        print(f"{module} ended with {status}, {seconds:.1f} s", file=sys.stderr)
        if status:
            break
    sys.exit(status)
