"""The image and the compose file, as far as they can be checked without an engine: what they name
is there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nas_attn.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "runners" / "containers"


@pytest.fixture
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    return found


def test_the_image_copies_what_is_there_and_installs_extras_that_exist() -> None:
    import tomllib

    text, sent = (
        (FOLDER / "Dockerfile").read_text("utf-8"),
        (ROOT / ".dockerignore").read_text().splitlines(),
    )
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in sent
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r"\'\.\[([\w,]+)\]\'", text)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"][
        "build"
    ]["targets"]["wheel"]
    copied = " ".join(re.findall(r"^COPY (.+)$", text, re.MULTILINE))
    assert all(source in copied for source in [*packaged["packages"], *packaged["force-include"]])


def test_the_services_commands_are_commands(compose: dict[str, Any]) -> None:
    services, group = compose["services"], typer.main.get_command(app)
    assert services.keys() == {"database", "begin", "worker", "dashboard"}
    command, *arguments = services["worker"]["command"]
    group.commands[command].make_context(command, arguments).close()  # type: ignore[attr-defined]
    assert "locks:/tmp/nas_attn-locks" in services["worker"]["volumes"]
    assert "mkdir /tmp/nas_attn-locks && chmod 1777 " in (FOLDER / "Dockerfile").read_text()
    for name in ("worker", "dashboard"):
        assert services[name]["depends_on"]["database"]["condition"] == "service_healthy"
        assert "PASSWORD" not in str(services[name]["command"]), "others see what a program is told"
        assert "@database/nas" in services[name]["environment"]["NAS_ATTN_STORAGE"]
    named = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
    }
    assert named == compose["volumes"].keys()


def test_the_jobs_of_kubernetes_are_commands_and_use_what_is_there() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    parts = {
        part["kind"]: part
        for part in yaml.safe_load_all((FOLDER.parent / "kubernetes.yaml").read_text("utf-8"))
    }
    job, server = parts["Job"]["spec"], parts["StatefulSet"]["spec"]
    pod = job["template"]["spec"]
    assert job["completionMode"] == "Indexed"
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(
        re.findall(r"--uid (\d+)", (FOLDER / "Dockerfile").read_text())[0]
    )
    group = typer.main.get_command(app)
    for container in (*pod["initContainers"], *pod["containers"]):
        name, *arguments = container["args"]
        group.commands[name].make_context(name, arguments).close()  # type: ignore[attr-defined]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        (url,) = (one["value"] for one in container["env"] if one["name"] == "NAS_ATTN_STORAGE")
        assert f"@{parts['Service']['metadata']['name']}/nas" in url
    assert parts["Service"]["spec"]["selector"] == server["selector"]["matchLabels"]
    assert parts["Service"]["spec"]["selector"] == server["template"]["metadata"]["labels"]


def test_the_compose_file_is_one() -> None:
    docker = [shutil.which("docker") or "false", "compose"]
    if subprocess.run([*docker, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker is not installed, or has no compose")
    command = [*docker, "-f", str(FOLDER / "compose.yaml"), "config", "--quiet"]
    subprocess.run(
        command, env={"POSTGRES_PASSWORD": "x", "PATH": "/usr/bin:/usr/local/bin"}, check=True
    )
