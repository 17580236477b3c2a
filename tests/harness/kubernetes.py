"""What Kubernetes gets, as plain data: schemas of its versions, what a pod must not do, and the same said to Docker."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VERSIONS = ("1.28", "1.31", "1.34", "1.37")
"""Versions of Kubernetes whose schemas are asked: an old one that is still met, and the newest that kubernetes-validate has."""
OPERATOR = "dask-kubernetes==2026.3.0"
"""The Dask operator: its package holds the definition of a DaskCluster."""
KINDS = ("Deployment", "Job", "DaskCluster")


def documents(folder: Path) -> list[dict[str, Any]]:
    """Every document of the YAML files of a folder and those below, less kustomize's own."""
    texts = [file.read_text() for file in sorted(folder.rglob("*.yaml"))]
    found = [document for text in texts for document in yaml.safe_load_all(text)]
    return [document for document in found if document["kind"] != "Kustomization"]


def pods(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The specs of the pods that a document asks for, by what they are for."""
    spec = document.get("spec", {})
    if document["kind"] == "DaskCluster":
        return {part: spec[part]["spec"] for part in ("scheduler", "worker")}
    return {document["kind"].lower(): spec["template"]["spec"]} if document["kind"] in KINDS else {}


def schema_problems(document: dict[str, Any], version: str) -> list[str]:
    """What a version of Kubernetes would not take; of a DaskCluster, the operator's definition and its pods."""
    # both take seconds to import, in each process and each collection
    import jsonschema
    import kubernetes_validate

    if document["kind"] == "DaskCluster":
        found = [
            f"DaskCluster: {error.json_path}: {error.message}"
            for error in jsonschema.Draft202012Validator(dask_cluster()).iter_errors(document)
        ]
        for name, spec in pods(document).items():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            service = document["spec"]["scheduler"]["service"]
            for part in (pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service}):
                found += schema_problems(part, version)
        return found
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"]
    return []


@functools.cache
def dask_cluster() -> dict[str, Any]:
    """The schema of a DaskCluster out of the operator's own package, and no field that it does not name."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, OPERATOR]
        subprocess.run(words, check=True, capture_output=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("crds/daskcluster.yaml")]
            definition = yaml.safe_load(archive.read(name))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"] |= {
        "kind": {"const": "DaskCluster"},
        "apiVersion": {"const": "kubernetes.dask.org/v1"},
        "metadata": {"type": "object"},
    }
    return _closed(copy.deepcopy(schema))


def _closed(schema: Any) -> Any:
    """A schema in which an object has the fields that are named, and in which int-or-string is said as JSON Schema says it."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _closed(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def liberties(spec: dict[str, Any]) -> list[str]:
    """What a pod may do or take beyond what it needs: Kubernetes' profile "restricted", a read-only root, bounded resources."""
    pod, found = spec.get("securityContext", {}), []
    if spec.get("automountServiceAccountToken") is not False:
        found.append("it gets a token of the cluster's API")
    if spec.get("enableServiceLinks") is not False:
        found.append("other services' names become its variables")
    found += [f"it asks for {name}" for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if spec.get(name)]
    for volume in spec.get("volumes", []):
        if "emptyDir" not in volume or "sizeLimit" not in volume["emptyDir"]:
            found.append(f"the volume {volume['name']} is not a scratch folder with a limit")
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container.get("securityContext", {})
        both = {**pod, **own}
        if both.get("runAsNonRoot") is not True or not both.get("runAsUser"):
            found.append("it may run as root")
        if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            found.append("no seccomp profile")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("it may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("it keeps capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("its root can be written")
        for kind in ("requests", "limits"):
            missing = {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys()
            found += [f"no {name} in its {kind}" for name in sorted(missing)]
    return found


def docker_options(spec: dict[str, Any]) -> tuple[str, ...]:
    """`docker run` options that mean what a pod's security settings, limits and scratch folders mean.

    Docker applies its own default seccomp profile unless it is told otherwise, which is what RuntimeDefault asks for.
    """
    [container] = spec["containers"]
    pod, own = spec.get("securityContext", {}), container.get("securityContext", {})
    words = []
    if "runAsUser" in pod:
        words += ["--user", f"{pod['runAsUser']}:{pod.get('runAsGroup', 0)}"]
    if own.get("readOnlyRootFilesystem"):
        words.append("--read-only")
    for name in own.get("capabilities", {}).get("drop", []):
        words += ["--cap-drop", name]
    if own.get("allowPrivilegeEscalation") is False:
        words += ["--security-opt", "no-new-privileges"]
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        words += ["--security-opt", "seccomp=unconfined"]
    words += _limits(container.get("resources", {}).get("limits", {}))
    for mount in container.get("volumeMounts", []):
        words += ["--tmpfs", mount["mountPath"]]
    for variable in container.get("env", []):
        if "value" in variable:
            words += ["--env", f"{variable['name']}={variable['value']}"]
    return tuple(words)


def _limits(limits: dict[str, str]) -> Iterator[str]:
    if "memory" in limits:
        size = limits["memory"]
        assert size[-2:] in ("Mi", "Gi"), f"say {size} in Mi or Gi"
        yield from ("--memory", size[:-1].lower(), "--memory-swap", size[:-1].lower())
    if "cpu" in limits:
        cpu = limits["cpu"]
        yield from ("--cpus", str(float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)))


def probe_problems(spec: dict[str, Any], health: dict[str, Any]) -> list[str]:
    """Where a pod's probes differ from an image's health check, as `docker image inspect` shows it (times in nanoseconds)."""
    [container], found, second = spec["containers"], [], 10**9
    command = health["Test"][1:]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(name, {})
        if probe.get("exec", {}).get("command") != command:
            found.append(f"{name} runs {json.dumps(probe.get('exec'))} and the image {json.dumps(command)}")
        elif probe["timeoutSeconds"] * second != health["Timeout"]:
            found.append(f"{name} waits {probe['timeoutSeconds']} s")
        elif name == "startupProbe":
            if probe["periodSeconds"] * probe["failureThreshold"] * second != health["StartPeriod"]:
                found.append("startupProbe gives another time to start in")
        elif (probe["periodSeconds"] * second, probe["failureThreshold"]) != (health["Interval"], health["Retries"]):
            found.append(f"{name} has another pace")
    return found
