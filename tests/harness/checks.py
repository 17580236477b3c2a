"""What has to hold inside an image. Each check returns a list of problems, a line each: empty is good.

A test asserts that the list is empty on the image as built, and its negative control that it is not on an image
that was broken on purpose: so the checks themselves are known to see.
"""

from __future__ import annotations

import json
import re
import tomllib

from packaging.markers import Marker
from testinfra.host import Host

from tests.harness.container import docker
from tests.harness.project import Project

DISTRIBUTIONS = """
import importlib.metadata, json, re
print(json.dumps({re.sub(r'[-_.]+', '-', d.metadata['Name']).lower(): d.version for d in importlib.metadata.distributions()}))
"""
RECORDS = """
import glob, json, sys
records = [json.load(open(f)) for f in glob.glob(sys.prefix + '/conda-meta/*.json')]
print(json.dumps({r['name']: [r['version'], r['build']] for r in records}))
"""
FILES = """
import glob, hashlib, json, os, sys
site = next(iter(glob.glob(sys.prefix + '/lib/python3.*/site-packages')))
found = []
for name in glob.glob(sys.prefix + '/conda-meta/*.json'):
    record = json.load(open(name))
    for entry in record['paths_data']['paths']:
        path = entry['_path']
        first, _, rest = path.partition('/')
        file = {'site-packages': f'{site}/{rest}', 'python-scripts': f'{sys.prefix}/bin/{rest}'}.get(first, f'{sys.prefix}/{path}')
        wanted = entry.get('sha256_in_prefix') or entry.get('sha256')
        if entry.get('path_type') != 'hardlink' or path.endswith('.dist-info/direct_url.json'):
            continue
        if not os.path.isfile(file) or wanted != hashlib.sha256(open(file, 'rb').read()).hexdigest():
            found.append(f"{record['name']}: {path}")
print(json.dumps([len(glob.glob(sys.prefix + '/conda-meta/*.json')), found]))
"""
NOTEBOOK = """
import asyncio, json, sys
from jupyter_client.manager import start_new_kernel
name, cells = json.loads(sys.argv[1])
manager, client = start_new_kernel(kernel_name=name, startup_timeout=60)
out = []
def hook(message):
    content = message['content']
    out.append(content.get('text') or content.get('data', {}).get('text/plain') or '\\n'.join(content.get('traceback', [])))
try:
    for cell in cells:
        client.execute_interactive(cell, timeout=60, allow_stdin=False, output_hook=lambda m: hook(m) if m['msg_type'] in
                                   ('stream', 'execute_result', 'error') else None)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
print(''.join(filter(None, out)))
"""


def python(host: Host, project: Project, code: str):
    """Run code with the environment's Python, whatever PATH says, and return the JSON that it prints."""
    return json.loads(host.check_output("%s -c %s", f"{project.prefix}/bin/python", code))


def conda_lock(host: Host, project: Project) -> list[str]:
    """Every package of conda's lock is installed at exactly that version and build, and no other is."""
    found = {name: tuple(value) for name, value in python(host, project, RECORDS).items()}
    locked = project.locked_by_conda()
    return [
        f"{name}: locked {locked.get(name)}, installed {found.get(name)}"
        for name in sorted(found.keys() | locked.keys())
        if found.get(name) != locked.get(name)
    ]


def conda_files(host: Host, project: Project) -> list[str]:
    """Every file that conda recorded is there with the content that it recorded; direct_url.json the build deletes."""
    records, problems = python(host, project, FILES)
    return problems if records else ["conda recorded no package"]


def locked_by_poetry(project: Project, groups: set[str]) -> dict[str, str]:
    """Return {name: version} of poetry.lock for some groups, on the platform of the images."""
    environment = {"python_version": "3.0", "python_full_version": "3.0.0", "sys_platform": "linux", "platform_system": "Linux",
                   "os_name": "posix", "platform_machine": "x86_64", "implementation_name": "cpython",
                   "platform_python_implementation": "CPython", "extra": ""}  # fmt: skip
    version, _ = project.locked_by_conda().get("python", (f"{project.minor}.99", ""))
    environment |= {"python_version": project.minor, "python_full_version": version}
    wanted = {}
    for package in tomllib.loads((project.path / "poetry.lock").read_text())["package"]:
        for group in groups & set(package["groups"]):
            marker = package.get("markers", "")
            marker = marker.get(group, "") if isinstance(marker, dict) else marker
            if not marker or Marker(marker).evaluate(environment):
                wanted[re.sub(r"[-_.]+", "-", package["name"]).lower()] = package["version"]
    return wanted


def poetry_lock(host: Host, project: Project, groups: set[str]) -> list[str]:
    """Every package that poetry.lock holds for `groups` is installed at exactly that version."""
    found = python(host, project, DISTRIBUTIONS)
    return [
        f"{name}: locked {version}, installed {found.get(name)}"
        for name, version in sorted(locked_by_poetry(project, groups).items())
        if found.get(name) != version
    ]


def runtime_contents(host: Host, project: Project) -> list[str]:
    """The runtime image holds neither conda nor Poetry nor the dev group."""
    problems = [f"{path} exists" for path in ("/opt/conda/bin/conda", "/opt/poetry", "/opt/conda/pkgs") if host.file(path).exists]
    problems += [
        f"{name} can be called" for name in ("conda", "mamba", "poetry", "uv") if host.run("command -v %s", name).rc == 0
    ]
    dev_only = locked_by_poetry(project, {"dev"}).keys() - locked_by_poetry(project, {"main", "conda"}).keys()
    found = python(host, project, DISTRIBUTIONS)
    return problems + [f"{name} of the dev group is installed" for name in sorted(dev_only & found.keys())]


def active(image: str, project: Project, *options: str) -> list[str]:
    """The environment is active in `docker run image command`."""
    name = "CONDA_DEFAULT_ENV" if project.conda else "VIRTUAL_ENV_PROMPT"
    code = f"import os, sys; print(sys.prefix, os.environ.get('{project.variable}'), os.environ.get('{name}'))"
    done = docker("run", "--rm", *options, image, "python", "-c", code, check=False)
    wanted = f"{project.prefix} {project.prefix} {project.package}"
    return [] if done.output.strip() == wanted else [f"expected {wanted!r}, got (exit code {done.code}) {done.output.strip()!r}"]


def kernel(image: str, project: Project, *options: str) -> list[str]:
    """The kernel is registered as asked, names the environment's Python by its whole path, and runs cells in it."""
    assert project.kernel, "this variant has no kernel: check that there is none instead"
    name, display_name = project.kernel["name"], project.kernel["display_name"]
    file = f"{project.kernel['prefix']}/share/jupyter/kernels/{name}/kernel.json"
    done = docker("run", "--rm", *options, image, "cat", file, check=False)
    if done.code:
        return [f"no kernel of the name {name}: {done.output.strip()}"]
    spec = json.loads(done.stdout)
    problems = []
    if not re.fullmatch(re.escape(f"{project.prefix}/bin/python") + r"[0-9.]*", spec["argv"][0]):
        problems.append(f"kernel.json starts {spec['argv'][0]}, not the environment's Python")
    if spec["display_name"] != display_name:
        problems.append(f"kernel.json calls it {spec['display_name']!r}, not {display_name!r}")
    cells = [
        "import sys, os\nprint(sys.prefix)",
        f"print(os.environ.get('{project.variable}'))",
        f"import {project.package}; 6 * 7",
    ]
    done = docker("run", "--rm", *options, image, "python", "-c", NOTEBOOK, json.dumps([name, cells]), check=False)
    if done.stdout.split() != [project.prefix, project.prefix, "42"]:
        problems.append(f"the cells printed (exit code {done.code}): {done.output.strip()[-1500:]}")
    return problems
