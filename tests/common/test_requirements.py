"""The locks agree with each other, and with what is imported."""

import ast
import re
import sys
from importlib import metadata

import pytest

from common.extras import EXTRAS
from common.project import ROOT

# What is needed, though no module of the project names it.
NOT_IMPORTED = {"setuptools"}  # TensorBoard's pkg_resources
# TensorFlow's own copy is newer; where this one is installed, it is taken.
CLOUD_TPU_CLIENT = {
    "cloud-tpu-client",
    "google-api-core",
    "google-api-python-client",
    "google-auth-httplib2",
    "googleapis-common-protos",
    "httplib2",
    "oauth2client",
    "pyparsing",
    "pytz",
    "uritemplate",
}
# Their imports are those of environments of their own.
WORKER = ROOT / "tpu_compiler" / "worker.py"
CHECKER = ROOT / "launch" / "engines" / "checks" / "checker.py"
# Those of the tools of development are in dev.txt.
TOOLS = {"docgen", "tests"}
ROOMS = [p.parent for p in ROOT.glob("*/__init__.py") if p.parent.name not in TOOLS]
# SkyPilot takes no protobuf of today: that of .venv-launch alone.
OF_ITS_OWN = {"launch"}
LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.in"))
DISTRIBUTIONS = metadata.packages_distributions()


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def read(name):
    """The pins of a lock with their hashes; the same package may have several."""
    text = (ROOT / f"{name}.txt").read_text()
    pins = {}
    for pin, rest in re.findall(r"^([\w.-]+==[^\s;\\]+)(.*(?:\n .*)*)", text, re.M):
        pins[pin] = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", rest))
    assert pins
    assert all(pins.values())
    return pins


def names(pins):
    return {pin.partition("==")[0] for pin in pins}


ALL = read("requirements")


@pytest.mark.parametrize("name", sorted(set(LOCKS) - OF_ITS_OWN))
def test_a_lock_pins_what_requirements_txt_pins(name):
    lock, shared = read(f"requirements/{name}"), names(ALL)
    for pin, hashes in lock.items():
        if pin.partition("==")[0] in shared:
            assert hashes == ALL[pin]


@pytest.mark.parametrize("name", ["core", "demo", "plots", "imagenet"])
def test_what_runs_is_a_part_of_requirements_txt(name):
    assert read(f"requirements/{name}").keys() <= ALL.keys()


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_an_accelerator_has_all_of_core_but_its_tensorflow(accelerator):
    found = read(f"requirements/{accelerator}").keys()
    missing = names(read("requirements/core").keys() - found)
    # And what cloud-tpu-client alone asks for.
    its_own = CLOUD_TPU_CLIENT if accelerator == "tpu" else set()
    assert missing - its_own == ({"tensorflow"} if accelerator == "tpu" else set())
    assert its_own <= missing


def imports(paths):
    """What modules import, the standard library and the project's own left out."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    rooms = {room.name for room in ROOMS} | TOOLS
    return found - set(sys.stdlib_module_names) - rooms


def distributions(package):
    return {canonical(name) for name in DISTRIBUTIONS.get(package, [package])}


IMPORTS = imports(
    path
    for room in ROOMS
    for path in room.rglob("*.py")
    if path not in (WORKER, CHECKER)
)


@pytest.mark.parametrize("package", sorted(IMPORTS))
def test_what_a_room_imports_is_in_core_or_in_the_extra_that_its_error_names(package):
    lock = next((extra for extra in EXTRAS if package in EXTRAS[extra]), "core")
    assert distributions(package) & names(read(f"requirements/{lock}"))


def test_core_asks_for_what_is_imported_and_no_more():
    asked = re.findall(
        r"^([\w.-]+)", (ROOT / "requirements" / "core.in").read_text(), re.M
    )
    imported = {name for package in IMPORTS for name in distributions(package)}
    assert set(asked) - imported == NOT_IMPORTED


def test_the_compilers_environment_has_what_its_worker_imports():
    found = imports([WORKER])
    assert found >= {"jax", "jaxlib"}
    assert found <= names(read("requirements/tpu-compiler"))


def test_the_environment_of_launch_has_what_its_checker_imports():
    found = imports([CHECKER])
    assert found >= {"sky", "kubernetes_validate", "jsonschema", "yaml"}
    asked = (ROOT / "requirements" / "launch.in").read_text()
    of_sky = {"sky": "skypilot", "yaml": "pyyaml"}
    for package in found:
        assert canonical(of_sky.get(package, package)) in asked
