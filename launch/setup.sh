#!/usr/bin/env bash
# Make .venv in this checkout from the lock of an accelerator, on a machine of a job.
#
# Environment: ACCELERATOR: tpu, gpu or cpu. Where .venv has that lock already, nothing is
# done. The images of TPU VMs bring Python 3.10, too old: uv takes a Python 3.11 to 3.13
# that is there, or downloads its own (github.com/astral-sh/python-build-standalone, whose
# digests uv holds); the packages come from PyPI, by their hashes.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${ACCELERATOR:-} in
  cpu) lock=requirements/core.txt ;;
  gpu | tpu) lock=requirements/$ACCELERATOR.txt ;;
  *) echo "error: ACCELERATOR is tpu, gpu or cpu, not '${ACCELERATOR:-}'" >&2; exit 2 ;;
esac
if cmp --silent "$lock" .venv/installed.txt; then
  echo "$lock is installed in .venv"
  exit
fi

python3 -m pip --version >/dev/null 2>&1 || {
  echo "error: $(command -v python3 || echo python3) has no pip: install python3-pip" >&2
  exit 2
}
# Into a folder, not an environment: the images lack python3-venv.
rm -rf .uv .venv
python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
  --target=.uv --requirement=requirements/setup.txt
uv=.uv/bin/uv
wanted='>=3.11,<3.14'
$uv python find "$wanted" >/dev/null 2>&1 || {
  echo "No Python 3.11 to 3.13 here: uv downloads one"
  $uv python install --no-progress 3.11
}
$uv venv --quiet --python="$wanted" .venv
echo "Installing $lock with $(.venv/bin/python --version)"
# --no-deps: the lock is complete for us, and leaves out on purpose what some packages
# ask for (on a TPU stock tensorflow, which would overwrite tensorflow-tpu).
$uv pip install --quiet --compile-bytecode --python=.venv/bin/python \
  --require-hashes --no-deps --requirement="$lock"
cp "$lock" .venv/installed.txt
