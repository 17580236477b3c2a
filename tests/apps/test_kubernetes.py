"""deploy/ rendered by make, and its security settings tested: with the same settings in Docker, the image starts, serves and is healthy.

What Kubernetes itself would take is asked in tests/render/test_kubernetes.py; here are what kustomize makes of it, and real containers.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import time

import pytest
import yaml

from tests.apps.test_apps import PORTS, answer, app_of, serving
from tests.harness import kubernetes
from tests.harness.container import derived, docker, running
from tests.harness.project import Project

TO = "registry.example.com/Group/ice"
CONTAINER = ("containers", 0, "securityContext")


def of(project: Project, kind: str) -> dict:
    """The project's document of a kind, as the template has it."""
    return next(one for one in kubernetes.documents(project.path / "deploy") if one["kind"] == kind)


def pod_of(project: Project, kind: str) -> dict:
    """The spec of the pod that the document of a kind asks for."""
    [pod] = kubernetes.pods(of(project, kind)).values()
    return pod


def images(text: str) -> list[str]:
    """The images that documents name, as they stand there."""
    return re.findall(r"^\s*(?:- )?image: (\S+)$", text, re.M)


# --- what make writes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(template_repository, sources, tmp_path_factory):
    """A project with every folder of deploy/, not built: only its documents are looked at."""
    from tests.harness import template

    answers = {"project_name": "Sea Ice", "app": "flask", "cluster": "dask", "deploy": "kubernetes"}
    path = template.render(template_repository, tmp_path_factory.mktemp("rendered") / "project", answers)
    return Project(path, "not-built")


def test_make_puts_the_image_into_every_document(rendered):
    shown = rendered.make("deploy-render", f"TO={TO}", "TAG=feature/Ice").output
    written = {file.name: file.read_text() for file in (rendered.path / "build/deploy").glob("*")}
    assert written.keys() == {"job.yaml", "service.yaml", "dask.yaml"}
    assert all(f"build/deploy/{name}" in shown for name in written)
    for text in written.values():
        assert set(images(text)) == {"registry.example.com/group/ice:feature-Ice"}
        documents = list(yaml.safe_load_all(text))
        assert [
            found for one in documents for version in kubernetes.VERSIONS for found in kubernetes.schema_problems(one, version)
        ] == []
        assert [found for one in documents for pod in kubernetes.pods(one).values() for found in kubernetes.liberties(pod)] == []
    # the negative control: what stands in the template names the image of this machine
    assert set(images((rendered.path / "deploy/job/job.yaml").read_text())) == {'"sea-ice:latest"'}


def test_a_digest_is_an_image_too(rendered):
    digest = "sha256:" + "0a" * 32
    rendered.make("deploy-render", f"TO={TO}", f"TAG={digest}")
    text = (rendered.path / "build/deploy/dask.yaml").read_text()
    assert set(images(text)) == {f"registry.example.com/group/ice@{digest}"}


def test_a_folder_of_the_users_own_is_rendered_with_its_patch(rendered):
    folder = rendered.path / "deploy/production"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: [../service]\nreplicas:\n  - name: sea-ice\n    count: 7\n")
    try:
        rendered.make("deploy-render", f"TO={TO}", "TAG=1")
        documents = list(yaml.safe_load_all((rendered.path / "build/deploy/production.yaml").read_text()))
        deployment = next(one for one in documents if one["kind"] == "Deployment")
        assert deployment["spec"]["replicas"] == 7
        # the negative control: a folder that kustomize cannot read is an error that names it, and leaves no file
        (rendered.path / "build/deploy/production.yaml").unlink()
        (folder / "kustomization.yaml").write_text("resources: [../servant]\n")
        shown = rendered.make("deploy-render", f"TO={TO}", "TAG=1", fails=True).output
        assert "deploy/production" in shown and "servant" in shown
        assert not list((rendered.path / "build/deploy").glob("*production*"))
    finally:
        (folder / "kustomization.yaml").unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "make deploy-render TO="),
        ((f"TO={TO}",), "make deploy-render TO="),
        (("TO=group/name {x: y}", "TAG=1"), "not the name of an image"),
        ((f"TO={TO}", "TAG=sha256:xyz"), "not a digest"),
    ],
)
def test_an_image_that_is_none_is_refused_with_a_reason(rendered, words, said):
    assert said in rendered.make("deploy-render", *words, fails=True).output


def test_no_container_of_kustomize_is_left(rendered):
    before = docker("ps", "--all", "--quiet").stdout.split()
    rendered.make("deploy-render", f"TO={TO}", "TAG=1")
    left = set(docker("ps", "--all", "--quiet").stdout.split()) - set(before)
    names = [docker("inspect", "--format", "{{.Config.Image}}", one, check=False).stdout for one in left]
    assert not [name for name in names if "kustomize" in name]


# --- the settings, said to Docker ------------------------------------------------------------------


def test_the_probes_are_the_images_own_health_check(served):
    health = json.loads(docker("image", "inspect", "--format", "{{json .Config.Healthcheck}}", served.runtime).stdout)
    pod = pod_of(served, "Deployment")
    assert kubernetes.probe_problems(pod, health) == []
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        broken = copy.deepcopy(pod)
        broken["containers"][0][name]["exec"]["command"][1] = "1"
        assert kubernetes.probe_problems(broken, health)
        broken = copy.deepcopy(pod)
        broken["containers"][0][name]["failureThreshold"] += 1
        assert kubernetes.probe_problems(broken, health)


def test_an_app_starts_and_serves_under_the_settings_of_its_pod(served):
    pod, port = pod_of(served, "Deployment"), PORTS[app_of(served)]
    options = kubernetes.docker_options(pod)
    assert {"--read-only", "--cap-drop", "no-new-privileges", "--tmpfs", "--memory"} <= set(options)
    probe = pod["containers"][0]["readinessProbe"]["exec"]["command"]
    with serving(served.runtime, *options, port=port) as (name, address):
        assert answer(address + probe[-1])
        assert docker("exec", name, *probe).code == 0
        # the negative controls: a probe where nobody listens (Streamlit answers on every path), and a root that can be written
        assert docker("exec", "--env", "PORT=9", name, *probe, check=False).code
        for place in ("/opt", "/work", "/home/app", "/etc", "/usr/local/bin"):
            assert "Read-only file system" in docker("exec", name, "sh", "-c", f"touch {place}/x", check=False).output, place


def test_an_app_starts_as_a_user_of_the_platforms_choice(flask):
    """OpenShift gives each namespace user ids of its own, and group 0."""
    pod = copy.deepcopy(pod_of(flask, "Deployment"))
    pod["securityContext"] |= {"runAsUser": 1000660000, "runAsGroup": 0}
    with serving(flask.runtime, *kubernetes.docker_options(pod), port=PORTS["flask"]) as (name, address):
        assert json.loads(answer(f"{address}/api/fit"))
        assert docker("exec", name, "id", "-u").stdout.strip() == "1000660000"


WRITER = 'CMD ["sh", "-c", "echo begun > /home/app/state && exec gunicorn --config python:{package}.serve"]'


def test_an_app_that_writes_its_root_is_seen_failing(flask):
    pod = pod_of(flask, "Deployment")
    free = copy.deepcopy(pod)
    del free["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    with derived(flask.runtime, WRITER.format(package=flask.package)) as image:
        with serving(image, *kubernetes.docker_options(free), port=PORTS["flask"]) as (name, _):
            assert docker("exec", name, "cat", "/home/app/state").stdout == "begun\n"
        with running(image, *kubernetes.docker_options(pod), command=()) as host:
            name = host.backend.name
            assert docker("wait", name, timeout=60).stdout.strip() != "0"
            assert "/home/app/state: Read-only file system" in docker("logs", name).output


STATUS = "import re; print({k: v for k, v in re.findall(r'^(Uid|CapBnd|CapEff|NoNewPrivs|Seccomp):\\t(\\w+)', open('/proc/self/status').read(), re.M)})"
REACHES = {
    "Uid": ("1000", ("securityContext", "runAsUser")),
    "CapBnd": ("0000000000000000", (*CONTAINER, "capabilities")),
    "NoNewPrivs": ("1", (*CONTAINER, "allowPrivilegeEscalation")),
    "Seccomp": ("2", ("securityContext", "seccompProfile")),
}


def status(image: str, pod: dict, *options: str) -> dict[str, str]:
    """What the kernel says of a process in a container with a pod's settings."""
    shown = docker("run", "--rm", *kubernetes.docker_options(pod), *options, image, "python", "-c", STATUS).stdout
    return json.loads(shown.replace("'", '"'))


@pytest.mark.parametrize("field", REACHES)
def test_a_setting_reaches_the_process_and_is_missed_when_it_is_gone(flask, field):
    value, path = REACHES[field]
    pod = pod_of(flask, "Deployment")
    assert status(flask.runtime, pod)[field] == value
    free = copy.deepcopy(pod)
    part = free
    for step in path[:-1]:
        part = part[step]
    del part[path[-1]]
    # without runAsUser the image's own user is left: a root image is what the setting is there for
    options = ("--user", "0") if field == "Uid" else ()
    assert status(flask.runtime, free, *options)[field] != value


def test_a_job_runs_to_its_end_under_the_settings_of_its_pod(script):
    pod = pod_of(script, "Job")
    arguments = pod["containers"][0]["args"]
    shown = docker("run", "--rm", *kubernetes.docker_options(pod), script.runtime, *arguments)
    assert "0.82" in shown.output
    done = docker("run", "--rm", *kubernetes.docker_options(pod), script.runtime, "sh", "-c", "touch /work/out.csv", check=False)
    assert done.code and "Read-only file system" in done.output


# --- the Dask cluster ------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_cluster(project: Project, document: dict):
    """The scheduler and a worker of a DaskCluster on a network of their own, as the operator names and joins them."""
    pods = kubernetes.pods(document)
    address = f"{document['metadata']['name']}-scheduler"
    network = f"{project.images}-deploy"
    given = {"DASK_WORKER_NAME": "worker-1", "DASK_SCHEDULER_ADDRESS": f"tcp://{address}:8786"}
    environment = tuple(word for item in given.items() for word in ("--env", "=".join(item)))
    started = []
    docker("network", "create", network)
    try:
        for part, extra in (("scheduler", ("--network-alias", address)), ("worker", environment)):
            words = [re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], word) for word in pods[part]["containers"][0]["args"]]
            options = (*kubernetes.docker_options(pods[part]), "--network", network, *extra)
            started.append(docker("run", "--detach", *options, project.runtime, *words).stdout.strip())
        yield network, dict(zip(("scheduler", "worker"), started, strict=True))
    finally:
        for name in started:
            docker("rm", "--force", "--volumes", name)
        docker("network", "rm", network)


def asked(name: str, probe: dict, ports: list[dict]) -> bool:
    """Does a container answer the request of a probe?"""
    port = next(port["containerPort"] for port in ports if port["name"] == probe["httpGet"]["port"])
    code = f"from urllib.request import urlopen; urlopen('http://127.0.0.1:{port}{probe['httpGet']['path']}', timeout=5)"
    return docker("exec", name, "python", "-c", code, check=False).code == 0


def test_a_dask_cluster_computes_under_the_settings_of_its_pods(dask):
    document = of(dask, "DaskCluster")
    job = pod_of(dask, "Job")
    with dask_cluster(dask, document) as (network, names):
        for part, pod in kubernetes.pods(document).items():
            [container] = pod["containers"]
            for probe in [container[key] for key in container if key.endswith("Probe")]:
                deadline = time.monotonic() + 60
                while not asked(names[part], probe, container["ports"]):
                    assert time.monotonic() < deadline, docker("logs", names[part]).output
                    time.sleep(0.5)
                nowhere = {**probe, "httpGet": {**probe["httpGet"], "path": "/no-such-page"}}
                assert not asked(names[part], nowhere, container["ports"])
        options = (*kubernetes.docker_options(job), "--network", network)
        shown = docker("run", "--rm", *options, dask.runtime, *job["containers"][0]["args"]).output
        assert "computed by 1 workers of tcp://star-count-scheduler:8786" in shown and "0.82" in shown
    # the negative control: without the cluster the same job says that nobody answers
    done = docker("run", "--rm", *kubernetes.docker_options(job), dask.runtime, *job["containers"][0]["args"], check=False)
    assert done.code and "no Dask scheduler answers" in done.output
