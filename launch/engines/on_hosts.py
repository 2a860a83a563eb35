"""What the machines of a job are told, whichever engine has made them."""

import subprocess
from pathlib import Path

from common.errors import UserError
from common.project import ROOT
from launch.job.job_file import Job

RUN_IMAGE = Path(__file__).with_name("run_image.sh").read_text()
RUN_COMMIT = "exec .venv/bin/python -m launch.host\n"
SETUP_COMMIT = "bash launch/setup.sh\n"
_HOST_SCRIPT = "launch/host/__main__.py"


def environment(job: Job, submission: str) -> dict[str, str]:
    """Return the variables of every machine, for run_image.sh or setup.sh."""
    told = job.host_job(submission)
    variables = {**told.to_environment(), "ACCELERATOR": told.machines}
    if job.image is None:
        return variables
    grace = str(job.grace_seconds)
    return {**variables, "LAUNCH_IMAGE": job.image, "LAUNCH_GRACE": grace}


def archive_words(commit: str, output: str) -> list[str]:
    """Return the command that writes the files of a commit to a tar file.

    Raises:
      UserError: this checkout has no such commit, or it has no host script.
    """
    _refuse_unless(f"{commit}^{{commit}}", f"code.commit: no commit {commit} here")
    _refuse_unless(
        f"{commit}:{_HOST_SCRIPT}",
        f"code.commit: {commit} is from before there was a {_HOST_SCRIPT}",
    )
    # Not -C: the file is to lie where the command runs.
    git = ["git", f"--git-dir={ROOT / '.git'}"]
    return [*git, "archive", f"--output={output}", commit]


def _refuse_unless(name: str, why: str) -> None:
    words = ["git", "-C", str(ROOT), "cat-file", "-e", name]
    try:
        found = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError as error:
        raise UserError("code.commit needs git, which is not installed") from error
    if not found:
        raise UserError(f"{why}; name one that this checkout has, or an image")
