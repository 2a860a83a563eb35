"""Jobs for tests: an example's, and one whose texts would hurt a shell."""

from common.project import ROOT
from launch.job import job_file
from tests.support import job_files

# Each shell, YAML, Kubernetes and JSON has something to say about it.
NASTY = """gs://bucket/a b'"$(touch pwned)`touch pwned`$HOME $$ ${X};&|\\n#ü %s *"""


def example(name):
    return job_file.load(str(ROOT / f"launch/jobs/{name}.yaml"))


def nasty(tmp_path, name, *changes):
    """An example with texts as nasty as its schema allows."""
    quoted = NASTY.replace("'", "''")
    text = job_files.text_of(name)
    for field in ("data_dir", "model_dir"):
        before, _, after = text.partition(f"  {field}: ")
        text = f"{before}  {field}: '{quoted}'\n{after.partition(chr(10))[2]}"
    job = job_file.load(str(job_files.write(tmp_path, text, *changes)))
    assert job.model_dir == job.data_dir == NASTY
    return job
