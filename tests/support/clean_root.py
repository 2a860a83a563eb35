"""Builds the Dockerfile where no engine is at hand: in a folder that becomes the root.

The base is a minimal Debian of the image's release with its own Python 3.11, made by
debootstrap, not python:3.11-slim-bookworm itself. COPY and RUN are done as they stand.
Network, limits and capabilities are those of this machine.
"""

import json
import os
import shlex
import shutil
import string
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import dockerfile
from tests.support.dockerfile import Stage

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Mounts live in a namespace of their own, and are gone with the process; so do its
# children. $1 is the root, $2 the user; what follows it is the command line.
_ENTER = """
mount -t proc proc "$1/proc" && mount --bind -o ro /sys "$1/sys" &&
mount -t tmpfs tmpfs "$1/dev/shm" &&
if [ -n "$3" ]; then mount --bind "$3" "$1/data"; fi &&
root=$1 user=$2 && shift 3 && exec chroot --userspec="$user" "$root" "$@"
"""


class Image(NamedTuple):
    """What a build ends with."""

    root: Path
    environment: dict[str, str]
    folder: str
    user: str
    entrypoint: list[str]
    default: list[str]
    labels: dict[str, str]

    def command(self, *arguments: str, data: Path | None = None) -> list[str]:
        """Return the command line of a container, process 1 of its own.

        Args:
          *arguments: of the entry point, instead of the default.
          data: a folder of this machine that it sees as /data.
        """
        if data is not None:
            (self.root / "data").mkdir(exist_ok=True)
        line = [*self.entrypoint, *(arguments or self.default)]
        home = _home(self.root, self.user)
        environment = {"HOME": home, **self.environment}
        return _entered(self.root, line, environment, self.folder, self.user, data)


def missing() -> str | None:
    """Say what this machine lacks for it, if anything."""
    if os.geteuid() != 0:
        return "needs root, for chroot"
    lacks = [
        one for one in ("debootstrap", "unshare", "chroot") if not shutil.which(one)
    ]
    return f"needs {', '.join(lacks)}" if lacks else None


def make_base(folder: Path) -> None:
    """Make a minimal Debian with a python where the official image has it."""
    packages = "--include=ca-certificates,python3-pip"
    command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    # Debian's own Python refuses pip; the official image's does not.
    (folder / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
    # The names and the certificates of this machine's network.
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(f"/{name}", folder / name)


def build(
    base: Path, context: Path, folder: Path, arguments: Mapping[str, str]
) -> Image:
    """Do what the Dockerfile says.

    Args:
      base: from `make_base`.
      context: holds the Dockerfile and what it copies.
      folder: where the stages are made, each a root.
      arguments: as of --build-arg.
    """
    defaults, stages = dockerfile.stages((context / "Dockerfile").read_text())
    given = {**defaults, **arguments}
    images = []
    for number, stage in enumerate(stages):
        root = folder / (stage.name or str(number))
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
        images.append(_build_stage(stage, root, context, given))
    return images[-1]


def _build_stage(
    stage: Stage, root: Path, context: Path, given: Mapping[str, str]
) -> Image:
    image = Image(root, {"PATH": _PATH}, "/", "0:0", [], [], {})
    arguments: dict[str, str] = {}
    for name, text in stage.instructions:
        if name == "ARG":
            defaults = (word.partition("=") for word in text.split())
            arguments |= {one: given.get(one, said) for one, _, said in defaults}
        elif name == "COPY":
            _copy(text, context, root, image.folder)
        elif name == "RUN":
            _run(image, text, arguments)
        else:
            image = _described(image, name, text, arguments)
    return image


def _described(
    image: Image, name: str, text: str, arguments: Mapping[str, str]
) -> Image:
    """Return an image with what an instruction says of it."""
    match name:
        case "ENV":
            more = _pairs(text, {**image.environment, **arguments})
            return image._replace(environment={**image.environment, **more})
        case "LABEL":
            return image._replace(labels=_pairs(text, arguments))
        case "WORKDIR":
            (image.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            return image._replace(folder=text)
        case "USER":
            return image._replace(user=text)
        case "ENTRYPOINT":
            return image._replace(entrypoint=json.loads(text))
        case "CMD":
            return image._replace(default=json.loads(text))
    raise AssertionError(f"not known here: {name} {text}")


def _copy(text: str, context: Path, root: Path, folder: str) -> None:
    words = text.split()
    if words[0].startswith("--from="):
        context = root.parent / words.pop(0).removeprefix("--from=")
    source, target = words
    into = root / folder.lstrip("/") / target
    subprocess.run(
        ["cp", "-a", "--reflink=auto", context / source.lstrip("/"), into], check=True
    )


def _run(image: Image, text: str, arguments: Mapping[str, str]) -> None:
    """Run a line, with the proxies and certificates of this machine's network."""
    network = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "PIP_CERT")
    ours = {name: os.environ[name] for name in network if name in os.environ}
    values = {**ours, **image.environment, **arguments}
    line = ["/bin/sh", "-c", text]
    command = _entered(image.root, line, values, image.folder, image.user)
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, f"{text}\n{ran.stdout}{ran.stderr}"


def _entered(
    root: Path,
    line: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    user: str,
    data: Path | None = None,
) -> list[str]:
    values = [f"{name}={value}" for name, value in environment.items()]
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", _ENTER, "sh", str(root), user, str(data or "")),
        *("env", "-i", f"--chdir={folder}", *values, *line),
    ]


def _pairs(text: str, values: Mapping[str, str]) -> dict[str, str]:
    """Read NAME=value ..., with $NAMES of the values."""
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: string.Template(said).substitute(values) for name, _, said in pairs}


def _home(root: Path, user: str) -> str:
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[2] == user.partition(":")[0]:
            return fields[5]
    return "/"
