"""Job files for tests: the examples, and one whose texts would hurt a shell."""

from common.project import ROOT
from launch.job import job_file

EXAMPLES = sorted((ROOT / "launch/jobs").glob("*.yaml"))
# Each shell, YAML, Kubernetes and JSON has something to say about it.
NASTY = """gs://bucket/a b'"$(touch pwned)`touch pwned`$HOME $$ ${X};&|\\n#ü %s *"""


def example(name):
    return job_file.load(str(ROOT / f"launch/jobs/{name}.yaml"))


def nasty(tmp_path, name, *changes):
    """An example with texts as nasty as its schema allows."""
    quoted = NASTY.replace("'", "''")
    text = (ROOT / f"launch/jobs/{name}.yaml").read_text()
    for field in ("data_dir", "model_dir"):
        before, _, after = text.partition(f"  {field}: ")
        text = f"{before}  {field}: '{quoted}'\n{after.partition(chr(10))[2]}"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "job.yaml"
    path.write_text(text)
    job = job_file.load(str(path))
    assert job.model_dir == job.data_dir == NASTY
    return job
