"""What the pipelines publish, and when: read from the files, for each kind of event, and seen to go red for each mistake."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

Pipeline = dict[str, Any]


def holds(condition: str, variables: dict[str, str]) -> bool:
    """Whether a condition of GitHub's or GitLab's holds: names, 'texts' and "texts", ==, !=, && and ||."""
    words = re.findall(r"'[^']*'|\"[^\"]*\"|==|!=|&&|\|\||[$\w.]+|\S", condition)
    known = {"&&": "and", "||": "or", "==": "==", "!=": "!="}
    texts = [
        known.get(word) or (repr(word[1:-1]) if word[0] in "'\"" else repr(variables.get(word.lstrip("$"), ""))) for word in words
    ]
    return bool(eval(" ".join(texts), {"__builtins__": {}}))


# --- GitHub ----------------------------------------------------------------------------------------

PUSH = {"github.event_name": "push", "github.ref_type": "branch", "github.ref_name": "main"}
PUSH |= {"github.event.repository.visibility": "public"}
PUBLISHED = ("a push to main", "a tag", "a push to main of a private repository")
EVENTS = {
    "a push to main": PUSH,
    "a push to main of a private repository": PUSH | {"github.event.repository.visibility": "private"},
    "a tag": PUSH | {"github.ref_type": "tag", "github.ref_name": "v1"},
    "a push to another branch": PUSH | {"github.ref_name": "feature"},
    "a pull request": PUSH | {"github.event_name": "pull_request"},
    "a pull request of a fork": PUSH | {"github.event_name": "pull_request_target"},
    "a schedule": PUSH | {"github.event_name": "schedule"},
}


def github_runs(text: str, event: dict[str, str]) -> list[str]:
    """Return the jobs that run for an event."""
    workflow = yaml.safe_load(text)
    on = workflow[True]  # YAML 1.1 reads `on` so
    name = event["github.event_name"]
    if name not in on:
        return []
    if name == "push":
        branches, tags = (on["push"] or {}).get("branches"), (on["push"] or {}).get("tags")
        if event["github.ref_type"] == "branch" and branches is not None and event["github.ref_name"] not in branches:
            return []
        if event["github.ref_type"] == "tag" and branches is not None and tags is None:
            return []
    wanted = {key: job for key, job in workflow["jobs"].items() if holds(job.get("if", "'yes'"), event)}
    return [key for key, job in wanted.items() if all(need in wanted for need in _list(job.get("needs")))]


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def github(text: str) -> list[str]:
    """Return what is wrong with a workflow."""
    found = []
    jobs = yaml.safe_load(text)["jobs"]
    pushing = {key for key, job in jobs.items() if any("make publish" in step.get("run", "") for step in job["steps"])}
    signing = {key for key, job in jobs.items() if any("attest" in step.get("uses", "") for step in job["steps"])}
    writing = {key for key, job in jobs.items() if "write" in (job.get("permissions") or {}).values()}
    if yaml.safe_load(text)["permissions"] != {} or writing != pushing | signing or len(pushing) != 1:
        found.append("a job may write that publishes nothing, or none publishes")
    for job in (jobs[key] for key in signing):
        if job["permissions"] != {"id-token": "write", "attestations": "write"} or len(job["steps"]) != 1:
            found.append("a job that signs may do more, or does more")
    if len(signing) != 1 or any("id-token" in jobs[key]["permissions"] for key in jobs.keys() - signing):
        found.append("nobody signs, or another job may")
    for name, event in EVENTS.items():
        runs = github_runs(text, event)
        published = bool(pushing & set(runs))
        if bool(signing & set(runs)) != (published and event["github.event.repository.visibility"] == "public"):
            found.append(f"{name}: signed without being published, or the other way round")
        if published != (name in PUBLISHED):
            found.append(f"{name}: {'published' if published else 'not published'}")
        if published and any("test" not in _list(jobs[key].get("needs")) for key in pushing):
            found.append(f"{name}: published without waiting for the tests")
        if name in ("a push to main", "a tag", "a pull request") and "test" not in runs:
            found.append(f"{name}: not tested")
    steps = [step.get("run", "") for step in jobs["test"]["steps"]]
    if [run for run in steps if run.startswith("make")] != [f"make {target}" for target in TARGETS]:
        found.append("the test job does something else")
    if any(job.get("continue-on-error") or any(step.get("continue-on-error") for step in job["steps"]) for job in jobs.values()):
        found.append("a failure is no failure")
    settings = {key: [job, *job["steps"]] for key, job in jobs.items() if key not in pushing}
    if any("CACHE_WRITE" in (one.get("env") or {}) for ones in settings.values() for one in [yaml.safe_load(text), *ones]):
        found.append("what was not published is in the layer cache")
    tags = next((step["env"]["TAGS"] for key in pushing for step in jobs[key]["steps"] if step.get("run") == "make publish"), "")
    if "github.ref_name" not in tags or "github.ref_type == 'branch' && 'latest'" not in tags:
        found.append("a tag moves latest, or a branch does not")
    return found


# --- GitLab ----------------------------------------------------------------------------------------

TARGETS = ["env-check", "bake", "lint", "test", "smoke"]
DEFAULT = {"CI_DEFAULT_BRANCH": "main"}
SOURCES = {
    "a push to main": DEFAULT | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main"},
    "a tag": DEFAULT | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1"},
    "a push to another branch": DEFAULT | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "feature"},
    "a merge request": DEFAULT | {"CI_PIPELINE_SOURCE": "merge_request_event"},
    "a schedule": DEFAULT | {"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main"},
    "a schedule for the locks": DEFAULT | {"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main", "FRESH_LOCKS": "yes"},
}
NO_JOBS = ("workflow", "default", "variables", "stages")


def _rule(rules: list[dict[str, Any]] | None, variables: dict[str, str]) -> dict[str, Any] | None:
    """Return the first rule that applies, None for none that lets something run. No rules let everything run."""
    if rules is None:
        return {}
    for rule in rules:
        if "if" not in rule or holds(rule["if"], variables):
            return None if rule.get("when") == "never" else rule
    return None


def gitlab_runs(text: str, variables: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return {job: the rule that lets it run} of a pipeline, in the order of its stages."""
    document: Pipeline = yaml.safe_load(text)
    if _rule(document["workflow"]["rules"], variables) is None:
        return {}
    jobs = sorted((set(document) - set(NO_JOBS)), key=lambda job: document["stages"].index(document[job]["stage"]))
    rules = {job: _rule(document[job].get("rules"), variables) for job in jobs}
    return {job: rule for job, rule in rules.items() if rule is not None}


def gitlab(text: str) -> list[str]:
    """Return what is wrong with a pipeline."""
    found = []
    document = yaml.safe_load(text)
    jobs = {key: job for key, job in document.items() if key not in NO_JOBS}
    [pushing] = [key for key, job in jobs.items() if "make publish" in job["script"]] or [""]
    for name, variables in SOURCES.items():
        runs = gitlab_runs(text, variables)
        if (pushing in runs) != (name in ("a push to main", "a tag")):
            found.append(f"{name}: {'published' if pushing in runs else 'not published'}")
        if pushing in runs and ("test" not in runs or list(runs).index("test") > list(runs).index(pushing)):
            found.append(f"{name}: published without waiting for the tests")
        if name in ("a push to main", "a tag", "a merge request") and "test" not in runs:
            found.append(f"{name}: not tested")
        if name == "a schedule" and list(runs) != ["audit"]:
            found.append(f"{name}: {', '.join(runs)}")
        asked = "locks" in jobs and name == "a schedule for the locks"
        if ({"locks", "request"} & runs.keys() == {"locks", "request"}) != asked:
            found.append(f"{name}: {', '.join(runs)}")
        latest = "latest" in str((runs.get(pushing) or {}).get("variables", jobs[pushing]["variables"]).get("TAGS", ""))
        if pushing in runs and latest != (name == "a push to main"):
            found.append(f"{name}: latest {'moves' if latest else 'stays'}")
    if jobs[pushing]["stage"] == jobs["test"]["stage"] or "needs" in jobs[pushing] or jobs[pushing].get("when"):
        found.append("published without waiting for the tests")
    if any(job.get("allow_failure") for job in jobs.values()) or jobs[pushing].get("interruptible", True):
        found.append("a failure is no failure, or publishing is broken off")
    rules = [rule for key in ("test", pushing) for rule in jobs[key].get("rules", ())]
    if any(rule.get("allow_failure") or rule.get("when", "never") not in ("never", "on_success") for rule in rules):
        found.append("a rule lets a job run, or fail, whatever the tests say")
    writing = [key for key, job in document.items() if key == "variables" or (key in jobs and key != pushing)]
    if any("CACHE_WRITE" in (document[key] if key == "variables" else jobs[key].get("variables", {})) for key in writing):
        found.append("what was not published is in the layer cache")
    if jobs["test"]["script"] != [f"make {target}" for target in TARGETS]:
        found.append("the test job does something else")
    return found


# --- the tests -------------------------------------------------------------------------------------

HOSTS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "github": (".github/workflows/ci.yml", github),
    "gitlab": (".gitlab-ci.yml", gitlab),
}
# Planted one by one, none of them runs: the assertion is that each is seen, `|| true` among them.
MISTAKES = {
    "github": [
        ("    if: github.event_name == 'push'\n", "", "a pull request: published"),
        ("github.event_name == 'push'", "github.event_name != 'schedule'", "a pull request: published"),
        ("github.event_name == 'push'", "github.event_name == 'pull_request'", "a pull request: published"),
        ("    needs: test\n", "", "published without waiting"),
        ("    branches: [main]\n", "", "a push to another branch: published"),
        ('    tags: ["**"]\n', "", "a tag: not published"),
        ("  pull_request:\n", "  pull_request_target:\n", "a pull request: not tested"),
        ("      packages: read # the cache\n", "      packages: write\n", "a job may write"),
        ("permissions: {}\n", "permissions: write-all\n", "a job may write"),
        ("        run: make test\n", "        run: make test || true\n", "does something else"),
        ("        run: make test\n", "        run: make test\n        continue-on-error: true\n", "a failure is no failure"),
        ("      attestations: write", "      packages: write\n      attestations: write", "may do more"),
        ("      packages: write # the image\n", "      packages: write\n      id-token: write\n", "another job may"),
        ("visibility == 'public'", "visibility != 'private-too'", "signed without"),
        ("    needs: publish\n", "    needs: test\n", "signed without"),
        ("github.ref_type == 'branch' && 'latest'", "github.ref_type && 'latest'", "a tag moves latest"),
        ('      MOUNT: "no"', '      CACHE_WRITE: "yes"\n      MOUNT: "no"', "in the layer cache"),
        ("env:\n  # Layers", 'env:\n  CACHE_WRITE: "yes"\n  # Layers', "in the layer cache"),
    ],
    "gitlab": [
        ('$CI_PIPELINE_SOURCE == "merge_request_event" || $CI_PIPELINE_SOURCE == "schedule"\n      when: never\n    - if: $CI_COMMIT_TAG',
         '$CI_PIPELINE_SOURCE == "schedule"\n      when: never\n    - if: $CI_PIPELINE_SOURCE == "merge_request_event"\n    - if: $CI_COMMIT_TAG',
         "a merge request: published"),
        ('$CI_PIPELINE_SOURCE == "merge_request_event" || $CI_PIPELINE_SOURCE == "schedule"', '$CI_PIPELINE_SOURCE == "merge_request_event"', "a schedule: "),
        ("    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n\ndefault:", "    - if: $CI_COMMIT_BRANCH\n\ndefault:", None),
        ("    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      variables:", "    - if: $CI_COMMIT_BRANCH\n      variables:", None),
        ("  stage: publish\n", "  stage: publish\n  needs: []\n", "without waiting"),
        ("  stage: publish\n", "  stage: test\n", "without waiting"),
        ("stages: [test, publish, audit]", "stages: [publish, test, audit]", "without waiting"),
        ("    - if: $CI_COMMIT_TAG\n    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      variables:", "    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      variables:", "a tag: not published"),
        ("  interruptible: false\n", "", "broken off"),
        ("    - make test\n", "    - make test || true\n", "does something else"),
        ("  script:\n    - make env-check", "  allow_failure: true\n  script:\n    - make env-check", "a failure is no failure"),
        ("      variables:\n        TAGS: $CI_COMMIT_REF_NAME latest\n", "", "latest stays"),
        ("    - when: on_success\n", "    - when: on_success\n      allow_failure: true\n", "whatever the tests say"),
        ("    - if: $CI_COMMIT_TAG\n    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      variables:", "    - if: $CI_COMMIT_TAG\n      when: always\n    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n      variables:", "whatever the tests say"),
        ('    MOUNT: "no"', '    CACHE_WRITE: "yes"\n    MOUNT: "no"', "in the layer cache"),
        ("  DOCKER_TLS_CERTDIR", '  CACHE_WRITE: "yes"\n  DOCKER_TLS_CERTDIR', "in the layer cache"),
    ],
}  # fmt: skip


def test_fresh_locks_run_in_their_own_schedule_alone(render):
    text = (render(ci="gitlab", fresh_locks="weekly").path / ".gitlab-ci.yml").read_text()
    assert gitlab(text) == []
    assert gitlab(text.replace(' && $FRESH_LOCKS == "yes"', "")) != []
    # nor where somebody gives the variable to the whole project
    everywhere = SOURCES["a push to main"] | {"FRESH_LOCKS": "yes"}
    assert list(gitlab_runs(text, everywhere)) == ["test", "publish"]
    assert "request" in gitlab_runs(text.replace('$CI_PIPELINE_SOURCE == "schedule" && ', ""), everywhere)


@pytest.mark.parametrize("host", HOSTS)
def test_images_are_published_from_main_and_tags_after_the_tests(render, host):
    """The negative controls: each mistake is seen. Further branches come in at GitLab only where workflow and job both let them."""
    file, problems = HOSTS[host]
    text = (render(ci=host).path / file).read_text()
    assert problems(text) == []
    survived = []
    for old, new, words in MISTAKES[host]:
        assert old in text, old
        changed = text.replace(old, new, 1)
        if words is None:
            for other, another, none in MISTAKES[host]:
                changed = changed.replace(other, another, 1) if none is None else changed
        found = problems(changed)
        if not any((words or "a push to another branch: published") in problem for problem in found):
            survived.append((old, new, found))
    assert survived == []
