import ast
import re

from common.project import ROOT


def test_the_image_has_every_package_that_the_trainer_imports():
    copied = set(
        re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.M)
    )
    assert {"train", "models", "input_pipeline", "gin_configs"} <= copied
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    imported = set()
    for package in copied & ours:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Import):
                    imported |= {name.name.partition(".")[0] for name in node.names}
    assert imported & ours <= copied


def test_the_locks_that_the_image_is_made_from_are_there():
    text = (ROOT / "Dockerfile").read_text()
    locks = dict(re.findall(r"^ +(\w+)\) lock=(\S+) ;;", text, re.M))
    assert locks == {"cpu": "core.txt", "gpu": "gpu.txt", "tpu": "tpu.txt"}
    for lock in (*locks.values(), "setup.txt"):
        assert (ROOT / "requirements" / lock).is_file()
    assert "-r requirements/setup.txt" in text
    assert '--no-deps -r "requirements/$lock"' in text
