"""Run a module as a command that ends when whoever has started it does.

    python -m search.engine.with_parent train.main --gin_file=... --model_dir=...

A search that is killed cannot tell its trainings so. But its end of their standard
input closes, whatever has ended it: then they are asked to end as by SIGTERM, and save
first.
"""

import os
import runpy
import signal
import sys
import threading


def stop_behind_stdin() -> None:
    """Ask for the end once whoever has started this closes its end, or is killed."""
    while os.read(0, 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the module that the first argument names, with the others."""
    module, *arguments = sys.argv[1:]
    threading.Thread(target=stop_behind_stdin, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
