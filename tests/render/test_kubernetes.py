"""deploy/: documents that several versions of Kubernetes take, and pods that may do nothing that they need not."""

from __future__ import annotations

import copy

import pytest

from tests.harness import kubernetes, template
from tests.harness.variants import variants

ROWS = [row for row in variants() if row.answers.get("deploy") == "kubernetes"]
WRONG = {
    "a misspelt field": (("spec", "template", "spec", "containers", 0, "imagePullPolice"), "Always"),
    "a number for a string": (("spec", "template", "spec", "containers", 0, "env", 0, "value"), 8000),
    "a port that is none": (("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "http"),
}
REMOVED = {
    "it gets a token": ("automountServiceAccountToken",),
    "other services' names": ("enableServiceLinks",),
    "it may run as root": ("securityContext", "runAsNonRoot"),
    "no seccomp profile": ("securityContext", "seccompProfile"),
    "it may gain privileges": ("containers", 0, "securityContext", "allowPrivilegeEscalation"),
    "it keeps capabilities": ("containers", 0, "securityContext", "capabilities"),
    "its root can be written": ("containers", 0, "securityContext", "readOnlyRootFilesystem"),
    "no memory in its limits": ("containers", 0, "resources", "limits", "memory"),
    "no cpu in its requests": ("containers", 0, "resources", "requests", "cpu"),
    "is not a scratch folder with a limit": ("volumes", 0, "emptyDir", "sizeLimit"),
}


def at(tree, path):
    """The part of a tree that a path leads to."""
    for step in path:
        tree = tree[step]
    return tree


@pytest.fixture(scope="module")
def deployed(template_repository, tmp_path_factory) -> dict[str, list[dict]]:
    """Each row's documents."""
    folder = tmp_path_factory.mktemp("deploy")
    return {
        row.name: kubernetes.documents(template.render(template_repository, folder / row.name, row.answers) / "deploy")
        for row in ROWS
    }


def test_every_kind_is_among_the_rows(deployed):
    kinds = {document["kind"] for documents in deployed.values() for document in documents}
    assert kinds == {"Job", "Deployment", "Service", "DaskCluster"}


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_kubernetes_takes_every_document(deployed, version):
    problems = [
        found for documents in deployed.values() for one in documents for found in kubernetes.schema_problems(one, version)
    ]
    assert problems == []


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_seen_by_every_version(deployed, version, case):
    path, value = WRONG[case]
    document = copy.deepcopy(next(one for one in deployed["flask"] if one["kind"] == "Deployment"))
    at(document, path[:-1])[path[-1]] = value
    assert kubernetes.schema_problems(document, version)


@pytest.mark.parametrize("part", ["scheduler", "worker"])
def test_a_mistake_in_a_dask_cluster_is_seen(deployed, part):
    document = next(one for one in deployed["dask"] if one["kind"] == "DaskCluster")
    for change in ({"replica": 2}, {"spec": {**document["spec"][part]["spec"], "restart": "Never"}}):
        broken = copy.deepcopy(document)
        broken["spec"][part] |= change
        assert kubernetes.schema_problems(broken, kubernetes.VERSIONS[-1])


def test_no_pod_may_do_what_it_need_not(deployed):
    pods = [pod for documents in deployed.values() for document in documents for pod in kubernetes.pods(document).values()]
    assert len(pods) == 10  # a job in each row, three services, scheduler and workers
    assert [found for pod in pods for found in kubernetes.liberties(pod)] == []


@pytest.mark.parametrize("liberty", REMOVED)
def test_a_setting_taken_away_is_seen(deployed, liberty):
    path = REMOVED[liberty]
    for documents in deployed.values():
        for document in documents:
            for pod in kubernetes.pods(copy.deepcopy(document)).values():
                del at(pod, path[:-1])[path[-1]]
                assert [found for found in kubernetes.liberties(pod) if liberty in found]


def test_what_selects_pods_selects_these(deployed):
    documents = {document["kind"]: document for document in deployed["flask"]}
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (documents["Deployment"]["spec"]["selector"]["matchLabels"], documents["Service"]["spec"]["selector"]):
        assert selector.items() <= labels.items()
    job = documents["Job"]["spec"]["template"]["metadata"]["labels"]
    assert not documents["Service"]["spec"]["selector"].items() <= job.items(), "a job's pod serves nothing"


def test_the_longest_name_leaves_room_for_what_the_operator_adds(render):
    project = render(project_name="Sea Ice", package_name="a" * 49 + "_" + "b" * 10, cluster="dask", deploy="kubernetes")
    documents = {document["kind"]: document for document in kubernetes.documents(project.path / "deploy")}
    name = documents["DaskCluster"]["metadata"]["name"]
    assert len(f"{name}-scheduler") <= 63 and name == "a" * 49
    [variable] = documents["Job"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable["value"] == f"tcp://{name}-scheduler:8786"


def images(document: dict) -> set[str]:
    """The images of all pods of a document."""
    return {container["image"] for pod in kubernetes.pods(document).values() for container in pod["containers"]}


def test_a_dask_cluster_is_one_image(deployed):
    document = copy.deepcopy(next(one for one in deployed["dask"] if one["kind"] == "DaskCluster"))
    job = next(one for one in deployed["dask"] if one["kind"] == "Job")
    assert len(kubernetes.pods(document)) == 2 and images(document) == images(job) and len(images(job)) == 1
    at(document, ("spec", "worker", "spec", "containers", 0))["image"] += "-other"
    assert len(images(document)) == 2, "the negative control"
