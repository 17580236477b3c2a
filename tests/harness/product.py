"""The template as a function from answers to files, fast enough for every combination of the choices.

Copier takes half a second for a project. Here each question and each file is compiled once, in an environment such as
Copier's, and what it gave is remembered by the values of the names that it reads: so a combination costs a look at
each, and each different file is rendered once. Copier stays the judge: tests/render/test_product.py compares with it.
"""

from __future__ import annotations

import itertools
import json
import operator
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jinja2
import pathspec
import yaml
from allpairspy import AllPairs
from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment

from tests.harness import template

ANSWERS_FILE = ".copier-answers.yml"
CASTS = {
    "str": str,
    "path": str,
    "int": int,
    "float": float,
    "bool": lambda value: value if isinstance(value, bool) else yaml.safe_load(value.strip()),
    "yaml": lambda value: yaml.safe_load(value) if isinstance(value, str) else value,
    "json": lambda value: json.loads(value) if isinstance(value, str) else value,
}


@cache
def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of `_exclude` leaves a path out, as Copier asks: itself or a folder that it lies in."""
    return pathspec.PathSpec.from_lines("gitignore", [pattern]).match_file(path)


class Refused(ValueError):
    """An answer that a validator or a list of choices refuses: `question` and `message`."""

    def __init__(self, question: str, message: str) -> None:
        super().__init__(f"{question}: {message}")
        self.question, self.message = question, message


@dataclass(frozen=True)
class File:
    """A rendered file, and whether it may be run."""

    content: bytes
    runs: bool


def _names(environment: jinja2.Environment, text: str) -> set[str]:
    """The names that a template reads, with those of the templates that it includes."""
    tree = environment.parse(text)
    found = meta.find_undeclared_variables(tree)
    for name in filter(None, meta.find_referenced_templates(tree)):
        found |= _names(environment, environment.loader.get_source(environment, name)[0])
    return found


class Piece:
    """A compiled template, and what it gave for the values of the names that it reads."""

    def __init__(self, environment: jinja2.Environment, text: str) -> None:
        self.names = tuple(sorted(_names(environment, text)))
        self.template = environment.from_string(text)
        self.known: dict[tuple, str] = {}
        self.runs = False

    def __call__(self, answers: Answers) -> str:
        key = tuple(map(answers.marks.get, self.names))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self.template.render(answers)
        return found


class Answers(dict):
    """Answers by question, and in `marks` the same as keys of a dictionary can be."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.marks: dict[str, Any] = {}
        for name, value in given.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        # in a tuple, so that no answer is the same as none; and True == 1, so all but text by its repr
        self.marks[name] = value if isinstance(value, str) else (repr(value),)


class Question:
    """One question of the template, asked or computed, as Copier with --defaults takes it."""

    def __init__(self, environment: jinja2.Environment, name: str, details: dict[str, Any]) -> None:
        self.name, self.details, self.cast = name, details, CASTS[details.get("type", "yaml")]
        self.multiple = details.get("multiselect", False)
        self.when = self._piece(environment, details.get("when", True))
        self.default = self._piece(environment, details["default"]) if "default" in details else None
        self.validator = self._piece(environment, details.get("validator", ""))
        listed = details.get("choices", [])
        listed = list(listed.items()) if isinstance(listed, dict) else listed
        values = [choice[1] if isinstance(choice, (list, tuple)) else choice for choice in listed]
        self.choices = [value["value"] if isinstance(value, dict) else value for value in values]
        self.vetoes = [
            self._piece(environment, value.get("validator", "") if isinstance(value, dict) else "") for value in values
        ]

    @staticmethod
    def _piece(environment: jinja2.Environment, value: Any) -> Any:
        return Piece(environment, value) if isinstance(value, str) else value

    @property
    def askable(self) -> bool:
        """Whether it can be asked at all; else its value is computed."""
        return self.details.get("when") is not False

    @property
    def chosen(self) -> bool:
        """Whether its answers can be counted."""
        return bool(self.choices) or self.details.get("type") == "bool"

    def pieces(self) -> list[Piece]:
        """What its answer depends on where every choice is tried: not its `when`, and no default that it has beside choices."""
        found = [*([] if self.chosen else [self.default]), self.validator, *self.vetoes]
        return [piece for piece in found if isinstance(piece, Piece)]

    def answer(self, answers: Answers, given: dict[str, Any]) -> None:
        """Put the answer with those that came before. Raises Refused, or KeyError where it has no default."""
        given_here = self.name in given
        value = given[self.name] if given_here else self._value(self.default, answers)
        if self.multiple and isinstance(value, str):
            value = yaml.safe_load(value)
        parsed = self.cast(value) if not self.multiple else [self.cast(item) for item in value]
        if self.choices:
            parsed = self._choose(parsed, answers)
        valid = not self.validator or not (given_here or self._asked(answers))
        answers[self.name] = parsed
        if not valid:
            message = self._value(self.validator, answers).strip()
            if message:
                raise Refused(self.name, message)

    def _value(self, piece: Any, answers: Answers) -> Any:
        if piece is None:
            raise KeyError(self.name)
        return piece(answers) if isinstance(piece, Piece) else piece

    def _asked(self, answers: Answers) -> bool:
        return CASTS["bool"](self._value(self.when, answers))

    def _choose(self, parsed: Any, answers: Answers) -> Any:
        if self.multiple:
            return [choice for choice in self.choices if choice in parsed]
        if parsed not in self.choices:
            raise Refused(self.name, f"{parsed!r} is not in {self.choices}")
        veto = self._value(self.vetoes[self.choices.index(parsed)], answers)
        if veto:
            raise Refused(self.name, veto)
        return parsed


class Product:
    """Every project that a template can make. `root` is the template's repository."""

    def __init__(self, root: Path = template.REPOSITORY) -> None:
        settings = next(yaml.load_all((root / "copier.yml").read_text(), template.loader(root)))
        self.folder = root / settings["_subdirectory"]
        self.suffix = settings["_templates_suffix"]
        operations = dict(settings["_envops"])
        undefined = {"jinja2.StrictUndefined": jinja2.StrictUndefined}[operations.pop("undefined")]
        self.environment = SandboxedEnvironment(
            undefined=undefined,
            extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
            loader=jinja2.FileSystemLoader(root),
            **operations,
        )
        self.questions = {name: Question(self.environment, name, details) for name, details in template.questions(root).items()}
        self.exclude = [Piece(self.environment, pattern) for pattern in settings["_exclude"]]
        self.sources = [self._source(path) for path in sorted(template.files_of(root, self.folder))]
        patterns = [word for text in settings["_exclude"] for word in re.findall(r"%}(.+?){%", text) or [text]]
        self.always = {
            name: content
            for name, path, content in self.sources
            if not path.names and isinstance(content, File) and not any(matches(pattern, name) for pattern in patterns)
        }
        self.sometimes = [source for source in self.sources if source[0] not in self.always]

    def _source(self, path: Path) -> tuple[str, Piece, Piece | File]:
        name = str(path.relative_to(self.folder))
        runs = os.access(path, os.X_OK)
        if not name.endswith(self.suffix):
            return name, Piece(self.environment, name), File(path.read_bytes(), runs)
        content = Piece(self.environment, path.read_text())
        content.runs = runs
        return name, Piece(self.environment, name.removesuffix(self.suffix)), content

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """Question -> its choices, a plain default first: what is asked, and read by more than a `when` or another choice's default."""
        read = {name for _, path, content in self.sources for name in (*path.names, *getattr(content, "names", ()))}
        read |= {name for pattern in self.exclude for name in pattern.names}
        read |= {
            name
            for question in self.questions.values()
            if question.askable
            for piece in question.pieces()
            for name in piece.names
        }
        # a computed value counts where something reads it: the last ones first, since each reads those above it
        for question in reversed([question for question in self.questions.values() if not question.askable]):
            if question.name in read:
                read |= {name for piece in question.pieces() for name in piece.names}
        return {
            name: _levels(question)
            for name, question in self.questions.items()
            if name in read and question.askable and question.chosen
        }

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the choices, refused ones included."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def cover(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Combinations in which every two choices of different questions meet, where `given` lets them."""

        def allowed(row: list) -> bool:
            try:
                self.answers({**given, **dict(zip(self.axes, row, strict=False))})
            except Refused:
                return False
            return True

        rows = [list(row) for row in AllPairs(list(self.axes.values()), filter_func=allowed)]
        # Where answers exclude each other, AllPairs gives some pairs up that could be: each gets a row of its own.
        levels = list(self.axes.values())
        for one, other in itertools.combinations(range(len(levels)), 2):
            for pair in itertools.product(levels[one], levels[other]):
                if any((row[one], row[other]) == pair for row in rows):
                    continue
                for row in ([*map(operator.itemgetter(0), levels)], *rows):
                    candidate = [*row]
                    candidate[one], candidate[other] = pair
                    if allowed(candidate):
                        rows.append(candidate)
                        break
        return [dict(zip(self.axes, row, strict=True)) for row in rows]

    def answers(self, given: dict[str, Any]) -> Answers:
        """All answers, asked and computed, that follow from some. Raises Refused."""
        answers = Answers({"_copier_conf": {"answers_file": ANSWERS_FILE, "os": "linux"}, **given})
        for question in self.questions.values():
            question.answer(answers, given)
        return answers

    def files(self, answers: Answers) -> dict[str, File]:
        """Path -> file, but for the answers file, which is Copier's own. Raises AssertionError where two have one path."""
        found = dict(self.always)
        left_out = [pattern for piece in self.exclude if (pattern := piece(answers))]
        for name, path, content in self.sometimes:
            where = path(answers)
            if where == ANSWERS_FILE or "" in where.split("/") or any(matches(pattern, where) for pattern in left_out):
                continue
            assert where not in found, f"{name} is one of two templates that both render {where}"
            found[where] = content if isinstance(content, File) else self._file(content(answers), content.runs)
        return found

    def _file(self, text: str, runs: bool) -> File:
        # one object for one text, so that a set of those seen is quick
        return self._files.setdefault((text, runs), File(text.encode(), runs))

    @cached_property
    def _files(self) -> dict[tuple[str, bool], File]:
        return {}


def _levels(question: Question) -> list[Any]:
    default = question.details.get("default")
    if question.multiple:
        sizes = range(1, len(question.choices) + 1)
        choices = [list(chosen) for size in sizes for chosen in itertools.combinations(question.choices, size)]
    else:
        choices = question.choices or [True, False]
    return sorted(choices, key=lambda choice: choice != default)
