"""The image: what is sent to the engine, what is copied, how it is installed."""

import ast
import re
import shlex

import pytest

from common.project import ROOT
from tests.support.dockerfile import DOCKERFILE, IGNORE, context, copied, stages

ARGUMENTS, STAGES = stages(DOCKERFILE)
PACKAGES, FINAL = STAGES
COPIED = {**copied(PACKAGES), **copied(FINAL)}
LOCKS = {"cpu": "core.txt", "gpu": "gpu.txt", "tpu": "tpu.txt"}


def instructions(stage, name):
    return [one.text for one in stage.instructions if one.name == name]


def test_the_base_is_pinned_by_its_digest_of_the_python_that_the_locks_begin_at():
    assert {stage.base for stage in STAGES} == {"$PYTHON"}
    pinned = r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}"
    assert re.fullmatch(pinned, ARGUMENTS["PYTHON"])
    assert "--python-version 3.11" in (ROOT / "Makefile").read_text()


def test_one_image_runs_every_role_and_not_as_root():
    assert instructions(FINAL, "ENTRYPOINT") == ['["python", "-m"]']
    assert instructions(FINAL, "CMD") == ['["train.main", "--help"]']
    assert instructions(FINAL, "USER") == ["1000:1000"]
    assert instructions(FINAL, "WORKDIR") == ["/app"]


def test_the_image_has_every_room_that_its_rooms_import():
    assert {"train", "input_pipeline", "preflight", "launch"} <= COPIED.keys()
    assert all(source == target for source, target in COPIED.items())
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    imported = set()
    for room in COPIED.keys() & ours:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Import):
                    imported |= {name.name.partition(".")[0] for name in node.names}
    assert imported & ours <= COPIED.keys()


def test_its_user_may_read_what_is_copied_whatever_the_modes_there():
    (line,) = instructions(FINAL, "RUN")[1:]
    assert shlex.split(line) == ["chmod", "-R", "a+rX", *copied(FINAL)]


def test_the_locks_are_installed_as_everywhere():
    _, line, build = instructions(PACKAGES, "RUN")
    assert build == ".venv/bin/python -m input_pipeline.fused.build --optional"
    assert dict(re.findall(r"(\w+)\) lock=(\S+) ;;", line)) == LOCKS
    assert "--require-hashes -r requirements/setup.txt" in line
    words = shlex.split(line[line.index("uv pip install") : line.index("&& cp")])
    install = (ROOT / "requirements" / "install").read_text()
    uv = install[install.index("exec $uv pip install") :].split('"${locks[@]}"')[0]
    flags = {word for word in uv.split() if word.startswith("--")}
    assert {word for word in words if word.startswith("--")} == flags | {"--no-cache"}
    assert words[-2:] == ["-r", "requirements/$lock"]


def test_the_engine_is_sent_what_is_copied_and_no_more():
    sent = context(ROOT, IGNORE)
    locks = {f"requirements/{lock}" for lock in (*LOCKS.values(), "setup.txt")}
    assert {name for name in sent if name.startswith("requirements/")} == locks
    assert {name.partition("/")[0] for name in sent} == COPIED.keys()
    for room in COPIED.keys() - {"requirements"}:
        ours = [*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.gin")]
        assert ours
        assert {path.relative_to(ROOT).as_posix() for path in ours} <= sent


def test_what_else_lies_in_a_checkout_is_not_sent(tmp_path):
    kept = ["train/main.py", "gin_configs/runs/one.gin", "requirements/core.txt"]
    out = [
        ".env",
        "key.json",
        ".git/config",
        "data/mnist/train-0",
        "runs/one/ckpt-1.index",
        ".venv/bin/python",
        "train/__pycache__/main.pyc",
        "train/.env",
        "requirements/dev.txt",
        "tests/train/test_run.py",
        "docs/train/page.md",
        "Dockerfile",
    ]
    for name in (*kept, *out):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path, IGNORE) == set(kept)


@pytest.mark.parametrize(
    ("ignore", "sent"),
    [
        ("", {"a.md", "b.txt", "x/a.md", "x/y/a.md"}),
        ("*.md", {"b.txt", "x/a.md", "x/y/a.md"}),
        ("*/a.md", {"a.md", "b.txt", "x/y/a.md"}),
        ("**/*.md", {"b.txt"}),
        ("/x/", {"a.md", "b.txt"}),
        ("?.md\n# x", {"b.txt", "x/a.md", "x/y/a.md"}),
        ("*\n!x/y", {"x/y/a.md"}),
        ("!x\n*", set()),
        ("x\n!x/a.md", {"a.md", "b.txt", "x/a.md"}),
    ],
)
def test_patterns_mean_what_docker_says(tmp_path, ignore, sent):
    for name in ("a.md", "b.txt", "x/a.md", "x/y/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path, ignore) == sent
