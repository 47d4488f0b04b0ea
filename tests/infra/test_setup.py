"""What the set-up is made of: files that must agree, and scripts that must parse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from infra.processes import PROCESSES
from infra.setup.has import missing

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "infra" / "setup").glob("*.sh"), ROOT / ".ci" / "run"])


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked() -> str:
    return (ROOT / "requirements.lock").read_text("utf-8")


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_lock_names_no_place_that_packages_came_from() -> None:
    text = locked()
    assert "://" not in text
    assert not re.search(r"^--(?!hash)", text, re.MULTILINE)


def test_lock_has_a_hash_for_every_package_and_leaves_torch_out() -> None:
    # a package is a line and the lines of its hashes
    for entry in re.split(r"\n(?=\S)", locked().strip()):
        assert re.match(r"[\w.-]+==[\w.!+-]+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"^(torch|nvidia-|triton)", locked(), re.MULTILINE)


def test_lock_has_every_direct_dependency() -> None:
    data = project()["project"]
    names = [*data["dependencies"], *data["optional-dependencies"]["dev"]]
    for line in names:
        name = re.split(r"[\[<>=!~ ]", line)[0]
        assert re.search(rf"^{re.escape(name)}==", locked(), re.MULTILINE), name


def test_torch_is_the_pinned_one() -> None:
    text = (ROOT / "requirements-torch.txt").read_text("utf-8")
    assert missing(text) == []
    assert missing("torch==0.0.1\n# torch==1\nno-such-thing==1\n") == [
        "torch==0.0.1",
        "no-such-thing==1",
    ]


def test_installed_version_is_the_projects() -> None:
    assert version("grindstone") == project()["project"]["version"]


def test_uv_is_the_same_in_set_up_and_image() -> None:
    script = (ROOT / "infra/setup/python.sh").read_text("utf-8")
    image = (ROOT / "infra/docker/Dockerfile").read_text("utf-8")
    wanted = re.search(r"^uv_version=(\S+)", script, re.MULTILINE)
    assert wanted is not None
    assert f"uv=={wanted[1]}\n" in image


def test_kafka_is_the_same_as_jars_and_as_image() -> None:
    jars = (ROOT / "infra/kafka/pom.xml").read_text("utf-8")
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    wanted = re.search(r"<kafka.version>(.*)</kafka.version>", jars)
    assert wanted is not None
    assert f"image: apache/kafka:{wanted[1]}\n" in compose


def test_kafka_image_is_told_what_the_properties_say() -> None:
    lines = (ROOT / "infra/kafka/server.properties").read_text("utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    image = dict(re.findall(r"^      (KAFKA_\w+): (.*)$", compose, re.MULTILINE))
    # addresses and folders differ inside a container
    differ = re.compile(r"listener|voters|log\.dirs|^process|^node")
    for name, value in told.items():
        if not differ.search(name):
            given = image.get("KAFKA_" + name.replace(".", "_").upper(), "").strip('"')
            assert given == value, name


def test_compose_publishes_to_this_machine_only() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    published = re.findall(r"^    ports:\n((?:      - .*\n)+)", compose, re.MULTILINE)
    lines = "".join(published).splitlines()
    assert len(lines) == 2
    assert all(line.strip().startswith('- "127.0.0.1:') for line in lines)


@pytest.mark.skipif(not has_compose(), reason="no Docker client with Compose on this machine")
def test_compose_file_is_valid() -> None:
    command = ["docker", "compose", "-f", "docker-compose.yml", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    wanted = {"kafka", "timescaledb", *PROCESSES}
    assert wanted == set(services)
    for name, service in services.items():
        assert all(p["host_ip"] == "127.0.0.1" for p in service.get("ports", [])), name


def test_setup_without_a_fitting_python_says_so(tmp_path: Path) -> None:
    setup = tmp_path / "infra" / "setup"
    shutil.copytree(ROOT / "infra" / "setup", setup)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["bash", "infra/setup/python.sh", "stamp"],
        cwd=tmp_path,
        env={**os.environ, "GRINDSTONE_PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"GRINDSTONE_PYTHON must be Python 3.11 to 3.13; got {old}" in done.stderr
    assert not (tmp_path / "stamp").exists()


def test_setup_as_a_user_prints_the_one_line_to_type(tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in {"id": "echo 1000", "apt-get": "exit 9"}.items():
        (fake / name).write_text(f"#!/bin/sh\n{text}\n")
        (fake / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", ". infra/setup/common.sh; system_packages 'Java is missing' a-jre b"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "  sudo apt-get install -y --no-install-recommends a-jre b\n" in done.stderr
