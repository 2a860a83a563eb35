"""What a machine with docker does, with stand-ins for docker, sudo and the network."""

import signal
import subprocess

import pytest

from launch.engines import on_hosts
from tests.launch.engines.jobs import NASTY, example
from tests.launch.engines.stubs import Stubs

DOCKER = """
word = next(w for w in sys.argv[1:])
failing = os.environ.get("FAILING", "").split()
if word in failing:
    sys.exit(1)
if word == "stop":
    (home / "stopped").touch()
if word == "run":
    while os.environ.get("WAITS") and not (home / "stopped").exists():
        time.sleep(0.02)
    sys.exit(int(os.environ.get("STATUS", "0")))
"""
# As the real one: nothing of the environment but what is named.
SUDO = """
names = sys.argv[1].partition("=")[2].split(",")
names += ["PATH", "STATUS"]
kept = {n: os.environ[n] for n in names if n in os.environ}
os.execvpe(sys.argv[2], sys.argv[2:], kept)
"""
CURL = """print('{"access_token": "s3cret", "expires_in": 3599}')"""


@pytest.fixture
def stubs(tmp_path):
    found = Stubs(tmp_path)
    found.add("docker", DOCKER)
    found.add("sudo", SUDO)
    found.add("curl", CURL)
    found.add("sleep")
    found.environment |= on_hosts.environment(example("v5e_32"), "once")
    found.environment["LAUNCH_JOB"] = NASTY
    return found


def run(stubs):
    return stubs.bash(on_hosts.RUN_IMAGE)


def container(call):
    """The environment of the container that a call of docker starts."""
    names = [w.removeprefix("--env=") for w in call["words"] if w.startswith("--env=")]
    return {n: call["environment"][n] for n in names if n in call["environment"]}


def test_the_container_gets_the_text_and_the_command_line_does_not(stubs):
    stubs.environment["SKYPILOT_NODE_RANK"] = "1"
    ended = run(stubs)
    assert (ended.returncode, ended.stderr) == (0, "")
    call = stubs.wait_for("docker", "run")
    assert container(call) == {"LAUNCH_JOB": NASTY, "SKYPILOT_NODE_RANK": "1"}
    words = call["words"]
    assert words[-5:-3] == ["--env=SKYPILOT_NODE_IPS", "--entrypoint=python"]
    assert words[-3].startswith("us-docker.pkg.dev/my-project/images/efficientnet-x@")
    assert words[-2:] == ["-m", "launch.host"]
    assert {"--privileged", "--net=host", "--init", "--stop-timeout=60"} <= set(words)
    assert not any("touch pwned" in line for line in call["processes"])
    assert not (stubs.folder / "pwned").exists()


def test_gpus(stubs):
    stubs.environment["ACCELERATOR"] = "gpu"
    assert run(stubs).returncode == 0
    words = stubs.wait_for("docker", "run")["words"]
    assert {"--gpus=all", "--ipc=host", "--net=host"} <= set(words)
    assert "--privileged" not in words


def test_the_token_goes_through_a_pipe(stubs):
    run(stubs)
    call = stubs.wait_for("docker", "login")
    assert call["stdin"] == "s3cret\n"
    assert call["words"][-1] == "https://us-docker.pkg.dev"
    assert not any("s3cret" in word for words in stubs.words() for word in words)


def test_another_registry_gets_no_token(stubs):
    stubs.environment["LAUNCH_IMAGE"] = "docker.io/me/image@sha256:0"
    assert run(stubs).returncode == 0
    assert not stubs.words(of="curl")


def test_without_the_right_to_docker_sudo_hands_the_variables_on(stubs):
    stubs.environment |= {"FAILING": "info", "STATUS": "75"}
    assert run(stubs).returncode == 75
    assert container(stubs.wait_for("docker", "run")) == {"LAUNCH_JOB": NASTY}


@pytest.mark.parametrize("status", [1, 137])
def test_its_status_is_that_of_the_container(stubs, status):
    stubs.environment["STATUS"] = str(status)
    assert run(stubs).returncode == status


@pytest.mark.parametrize("status", [0, 75])
def test_sigterm_reaches_the_container_and_its_status_comes_back(stubs, status):
    stubs.environment |= {"STATUS": str(status), "WAITS": "yes"}
    with subprocess.Popen(
        ["bash", "-c", on_hosts.RUN_IMAGE], env=stubs.environment, cwd=stubs.folder
    ) as process:
        stubs.wait_for("docker", "run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == status
    assert stubs.words(of="docker")[-1] == ["docker", "stop", "-t", "60", "launch-host"]


def test_an_image_that_cannot_be_pulled(stubs):
    stubs.environment["FAILING"] = "pull"
    ended = run(stubs)
    assert ended.returncode == 1
    assert "error: us-docker.pkg.dev/my-project/images/" in ended.stderr
    assert [words[1] for words in stubs.words(of="docker")].count("pull") == 4
    assert stubs.words(of="sleep") == [["sleep", s] for s in ("10", "30", "60")]


def test_no_accelerator(stubs):
    stubs.environment["ACCELERATOR"] = "cpu"
    ended = run(stubs)
    assert ended.returncode == 2
    assert ended.stderr == "error: ACCELERATOR is tpu or gpu, not 'cpu'\n"
