"""The files of docs/kuberay fit each other, the command and what a task asks for."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vinet_bench.cli import app
from vinet_bench.cluster import MEMORY

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "kuberay"
GIBIBYTE = 1024**3


def documents(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.fixture
def job() -> Any:
    (found,) = documents("rayjob.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    return found["spec"]


def pods(job: Any) -> list[Any]:
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_pod_runs_the_image_that_the_dockerfile_names(job: Any) -> None:
    told = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    (image,) = set(re.findall(r"(REGISTRY/[\w.:-]+)", told))
    assert {pod["containers"][0]["image"] for pod in pods(job)} == {image}
    assert f"ray[default]=={job['rayClusterSpec']['rayVersion']}" in told


def test_the_commands_options_are_the_programs(job: Any) -> None:
    program, command, *options = job["entrypoint"].split()
    assert (program, command) == ("vinet-bench", "run")
    wrong = [*options[1:], "--workers", "0"]  # refused before anything is read
    result = CliRunner().invoke(app, [command, options[0], *wrong])
    assert "Invalid value for '--workers'" in result.output
    assert CliRunner().invoke(app, [command, "--unknown"]).output.count("No such option") == 1


def test_a_pod_holds_the_tasks_that_share_its_gpu(job: Any) -> None:
    words = job["entrypoint"].split()
    threads = int(next(w for w in words if w.startswith("threads=")).partition("=")[2])
    at_once = int(1 / float(words[words.index("--gpus-per-task") + 1]))
    for pod in pods(job):
        limits = pod["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"
        assert int(limits["cpu"]) >= at_once * threads
        assert int(limits["memory"].removesuffix("Gi")) * GIBIBYTE * 0.5 >= at_once * MEMORY


def test_what_is_mounted_is_claimed(job: Any) -> None:
    claims = {claim["metadata"]["name"] for claim in documents("storage.yaml")}
    for pod in pods(job):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes.keys() == {m["name"] for m in pod["containers"][0]["volumeMounts"]}
        wanted = [v.get("persistentVolumeClaim", {}) for v in volumes.values()]
        assert {claim["claimName"] for claim in wanted if claim} <= claims
