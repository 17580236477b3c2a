"""environment.yml as public repositories have it: each form is understood, or refused with its line, what stands there, and the way out."""

from __future__ import annotations

import pytest

from couplet.errors import UserError, without_password
from couplet.lock import environment

from .folders import channel, project

__all__ = ["channel", "project"]

UNDERSTOOD = {
    # the file
    "no name": ("dependencies:\n- python\n", ["python"]),
    "a name that is a number": ("name: 1\ndependencies: [python]\n", ["python"]),
    "prefix, as conda env export writes it": ("name: x\ndependencies:\n- python\nprefix: /home/ada/miniconda3/envs/x\n", ["python"]),
    "Windows' line ends": ("dependencies:\r\n- python\r\n- numpy  # [linux]\r\n", ["python", "numpy on linux"]),
    "a byte order mark": ("\ufeffdependencies:\n- python\n", ["python"]),
    "the marks of a document": ("%YAML 1.1\n---\ndependencies:\n- python\n...\n", ["python"]),
    "an anchor and its alias": ("name: &n python\ndependencies:\n- *n\n", ["python"]),
    "a merge key": ("dependencies: [python]\n<<: {name: x}\n", ["python"]),
    "one line": ("dependencies: [python=3.11, 'numpy>=1,<3']\n", ["python 3.11.*", "numpy >=1,<3"]),
    "YAML's old words for true": ("dependencies:\n- y\n- yes\n", ["y", "yes"]),
    # versions
    "an equals sign": ("dependencies:\n- python=3.11\n- numpy = 1.26\n", ["python 3.11.*", "numpy 1.26.*"]),
    "two of them": ("dependencies:\n- numpy==1.26.4\n", ["numpy ==1.26.4"]),
    "a version and a star": ("dependencies:\n- numpy 1.26.*\n- scipy=1.*\n- pip=*\n", ["numpy 1.26.*", "scipy 1.*", "pip *"]),
    "a range": ("dependencies:\n- python>=3.11,<3.12\n- numpy >=1.26, <2\n", ["python >=3.11,<3.12", "numpy >=1.26,<2"]),
    "blanks around signs": ("dependencies:\n- numpy >= 1.26, < 2\n- python ~= 3.11\n- scipy= 1.16\n", ["numpy >=1.26,<2", "python ~=3.11", "scipy 1.16.*"]),
    "a range and a star": ("dependencies:\n- numpy >=1.20.*\n- scipy=1.16.*,>=1.16.2\n- python==3.11.*\n", ["numpy >=1.20", "scipy 1.16.*,>=1.16.2", "python 3.11.*"]),
    "in parentheses": ("dependencies:\n- numpy (>=1.26)\n", ["numpy >=1.26"]),
    "all but one": ("dependencies:\n- python 3.11.*,!=3.11.3\n", ["python 3.11.*,!=3.11.3"]),
    "compatible": ("dependencies:\n- numpy~=1.26\n", ["numpy ~=1.26"]),
    "a release candidate": ("dependencies:\n- python=3.14.0rc1\n", ["python 3.14.0rc1.*"]),
    "either": ("dependencies:\n- numpy=1.25|>=2\n", ["numpy 1.25.*|>=2"]),
    "an epoch": ("dependencies:\n- x264=1!164.3095\n", ["x264 1!164.3095.*"]),
    "one name twice": ("dependencies:\n- numpy>=1\n- numpy<2\n", ["numpy >=1", "numpy <2"]),
    # builds
    "a build": ("dependencies:\n- numpy=1.26.4=py311h64a7726_0\n", ["numpy ==1.26.4 py311h64a7726_0"]),
    "a build behind blanks": ("dependencies:\n- numpy 1.26.4 py311_0\n", ["numpy ==1.26.4 py311_0"]),
    "builds of a kind": ("dependencies:\n- blas=*=openblas\n- numpy=*=*mkl*\n", ["blas * openblas", "numpy * *mkl*"]),
    "a build with dots": ("dependencies:\n- pytorch=2.1.0=py3.11_cuda12.1_cudnn8.9.2_0\n", ["pytorch ==2.1.0 py3.11_cuda12.1_cudnn8.9.2_0"]),
    "the number of a build": ("dependencies:\n- blas[build=mkl]\n- numpy[build_number='>=2']\n", ['blas[build="mkl"]', 'numpy[build_number=">=2"]']),
    "a build by a regular expression": ("dependencies:\n- numpy=1.26=^py(?!27).*$\n", ["numpy ==1.26 ^py(?!27).*$"]),
    "brackets behind a version": ("dependencies:\n- numpy>=1.26[build=py311*]\n- python_abi=3.11[build=*_cp311]\n", ["numpy >=1.26 py311*", "python_abi 3.11.* *_cp311"]),
    "brackets": ('dependencies:\n- matplotlib-base[version=">=3"]\n', ["matplotlib-base >=3"]),
    "conda env export --from-history": ("dependencies:\n- numpy[version='>=1.26,<2',build=py311*]\n", ["numpy >=1.26,<2 py311*"]),
    "a whole export": (
        "name: x\nchannels:\n  - conda-forge\ndependencies:\n  - _libgcc_mutex=0.1=conda_forge\n  - python=3.11.9=hb806964_0_cpython\n"
        "  - tzdata=2024a=h0c530f3_0\nprefix: /home/ada/x\n",
        ["_libgcc_mutex ==0.1 conda_forge", "python ==3.11.9 hb806964_0_cpython", "tzdata ==2024a h0c530f3_0"],
    ),
    # names
    "capitals": ("dependencies:\n- NumPy\n- PyYAML\n", ["numpy", "pyyaml"]),
    "R": ("dependencies:\n- r-base=4.3\n- _r-mutex\n", ["r-base 4.3.*", "_r-mutex"]),
    "CUDA of another time": ("dependencies:\n- cudatoolkit=11.8\n", ["cudatoolkit 11.8.*"]),
    "quotes": ("dependencies:\n- \"numpy>=1\"\n- 'scipy'\n", ["numpy >=1", "scipy"]),
    "a blank of another kind": ("dependencies:\n- numpy\u00a0>=1\n", ["numpy >=1"]),
    "a channel": ("dependencies:\n- conda-forge::numpy=1.26.*=py311*\n", ["conda-forge::numpy 1.26.* py311*"]),
    "a channel's label": ("dependencies:\n- nvidia/label/cuda-11.8.0::cuda-toolkit\n", ["nvidia/label/cuda-11.8.0::cuda-toolkit"]),
    "a compiler": ("dependencies:\n- gcc_linux-64=9.*\n- sysroot_linux-64==2.17\n", ["gcc_linux-64 9.*", "sysroot_linux-64 ==2.17"]),
    "what the machine has": ("dependencies:\n- __glibc>=2.17\n", ["__glibc >=2.17"]),
    "a channel's address": ("dependencies:\n- https://conda.anaconda.org/conda-forge::numpy\n", ["conda-forge::numpy"]),
    # comments
    "comments": ("# top\ndependencies:\n# [linux]\n- numpy  # for arrays\n- scipy# fits\n- 'pip # old'\n", ["numpy", "scipy", "pip"]),
    "a footnote": ("dependencies:\n- numpy  # see issue [#12]\n- scipy  # [why](https://example.com)\n", ["numpy", "scipy"]),
    "brackets in a comment": ("dependencies:\n- numpy  # of [pyproject], see [osx](https://example.com)\n", ["numpy"]),
    "a selector behind a link": ("dependencies:\n- numpy  # [why](https://example.com) [osx]\n", ["numpy on osx"]),
    "a selector": ("dependencies:\n- numpy #[linux64]\n- scipy  # [ osx ]\n", ["numpy on linux64", "scipy on osx"]),
    "a selector with a reason": ("dependencies:\n- numpy  # [linux] fast\n- scipy  # needed, [osx]\n", ["numpy on linux", "scipy on osx"]),
    "Windows alone": ("dependencies:\n- python\n- pywin32  # [win]\n", ["python", "pywin32 on win"]),
}  # fmt: skip


def read(folder, text: str | bytes) -> environment.Environment:
    (folder / "environment.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return environment.read(folder)


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_a_file_asks_for_is_understood(tmp_path, case):
    text, specs = UNDERSTOOD[case]
    found = read(tmp_path, text)
    assert [f"{spec.match}{' on ' * bool(spec.selector)}{spec.selector}" for spec in found.specs] == specs
    if "anchor" not in case and "one line" not in case:
        lines = text.replace("\r", "").splitlines()
        assert all(spec.text in lines[spec.line - 1] for spec in found.specs)


CHANNELS = {
    "none": ("", []),
    "Anaconda's": ("channels: [defaults, conda-forge]\n", ["defaults", "conda-forge"]),
    "none of Anaconda's": ("channels:\n- conda-forge\n- nodefaults\n", ["conda-forge"]),
    "a label": ("channels:\n- conda-forge/label/dev\n- pkgs/main\n", ["conda-forge/label/dev", "pkgs/main"]),
    "a token": ("channels:\n- https://conda.example.com/t/tk-1/own/\n", ["https://conda.example.com/t/tk-1/own/"]),
    "a password": (
        "channels:\n- https://ada:b%40c@conda.example.com:8443/own\n",
        ["https://ada:b%40c@conda.example.com:8443/own"],
    ),
    "a registry": ("channels:\n- oci://ghcr.io/channel-mirrors/conda-forge\n", ["oci://ghcr.io/channel-mirrors/conda-forge"]),
    "quotes and blanks": ("channels:\n- 'conda-forge '  # ours\n", ["conda-forge"]),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_are_understood(tmp_path, case):
    text, names = CHANNELS[case]
    assert read(tmp_path, f"{text}dependencies: [python]\n").channels == names


def test_variables_may_be_merged(tmp_path):
    """As any table of YAML: a merge key has no line of its own."""
    assert read(tmp_path, "variables:\n  <<: {A: b}\n  C: d\ndependencies: [python]\n").variables == {"A": "b", "C": "d"}


REFUSED = {
    # a line of dependencies -> what is said of it
    "a table": ("- python: 3.10", "`python: 3.10` is not a dependency. Write `- python=3.10`."),
    "a table with a name": ("- name: numpy\n  version: '>=1'", "`name: numpy` is not a dependency. Example: `- numpy>=2`."),
    "a name alone in a table": ("- {name: numpy}", "`{name: numpy}` is not a dependency. Example"),
    "rattler-build's condition": ("- if: linux\n  then: numpy", "`if: linux` is not a dependency. Example"),
    "nothing": ("- ~", "an empty item is not a dependency. Example"),
    "a text of nothing": ("- ''", "`''` is not a dependency. Example"),
    "a number": ("- 3.10", "`3.10` is not a dependency. Example"),
    "a date": ("- 2024-01-01", "`2024-01-01` is not a dependency. Example"),
    "a list": ("- [numpy, scipy]", "`[numpy, scipy]` is not a dependency. Example"),
    "a tag": ("- !include other.yml", "`!include other.yml` is not a dependency. Example"),
    "Jinja": ("- numpy={{ numpy }}", "`numpy={{ numpy }}` has a variable in it, which nothing here replaces: write its value."),
    "Jinja alone": ("- {{ pin }}", "`{{ pin }}` has a variable in it"),
    "a shell's variable": ("- python=${PY}", "`python=${PY}` has a variable in it"),
    "one colon": ("- conda-forge:numpy", "`conda-forge:numpy` has one colon. A version goes after `=` (`name=1.0`), a channel before two colons"),
    "a colon for a version": ("- python:3.11", "`python:3.11` has one colon. A version goes after `=`"),
    "a blank behind the channel": ("- conda-forge:: numpy", "`conda-forge:: numpy` is not a dependency. Write `- conda-forge::numpy`."),
    "a channel by a slash": ("- conda-forge/numpy", "`conda-forge/numpy` is not a spec that conda can read"),
    "a channel of several": ("- defaults::numpy", "`defaults` stands for several channels. Name one: `pkgs/main::name`."),
    "a channel's platform": ("- conda-forge/linux-64::numpy", "`conda-forge/linux-64` names a platform. A channel has all of them: write it without /linux-64."),
    "a range in a table": ("- numpy: '>=1.2,<2'", "`numpy: '>=1.2,<2'` is not a dependency. Write `- numpy>=1.2,<2`."),
    "two conditions without a comma": ("- numpy>1.2<2", "`numpy>1.2<2` has `<2` where a build stands. Put a comma between conditions (`>=1,<2`)"),
    "a range with a blank": ("- python >=3.11 <3.12", "has `<3.12` where a build stands. Put a comma"),
    "two conditions and a word": ("- numpy >=1.26 and <2", "has `and <2` where a build stands"),
    "a range with a dash": ("- numpy 1.26 - 2", "has `- 2` where a build stands"),
    "a line that is indented too far": ("- numpy=1.26\n  - scipy", "`numpy=1.26 - scipy` has `- scipy` where a build stands. Put a comma between conditions (`>=1,<2`), and each dependency into a line of its own."),
    "a channel as npm has it": ("- numpy=1.26=py311_0=conda-forge", "has `py311_0=conda-forge` where a build stands"),
    "two versions": ("- numpy=1.26[version='>=2']", "has two versions, and the one in front of the brackets would be ignored."),
    "signs in another order": ("- numpy=>1.26", "`numpy=>1.26` is not a spec"),
    "quotes within": ("- numpy='1.26'", "`numpy='1.26'` is not a spec"),
    "a placeholder": ("- numpy=<version>", "`numpy=<version>` is not a spec"),
    "a list in the list": ("- - numpy", "`- numpy` is not a dependency. Example"),
    "a tag of YAML's": ("- !include numpy", "`!include numpy` is not a dependency. Example"),
    "a channel for each of two": ("- conda-forge::numpy, conda-forge::scipy", "`conda-forge::numpy, conda-forge` is not a channel"),
    "an option behind it": ("- numpy --no-deps", "`numpy --no-deps` is not a spec"),
    "a Windows path": ("- C:\\numpy-1-0.conda", "is an archive's address"),
    "a marker": ("- numpy>=1; python_version<'3.9'", "has a marker of pip's. For one system alone, write a comment after it: `# [linux]`."),
    "a semicolon": ("- numpy;", "`numpy;` has a marker"),
    "extras": ("- dask[complete]", "`dask[complete]` asks for extras, which only PyPI's packages have: it goes into `dependencies` in pyproject.toml."),
    "extras and a version": ("- uvicorn[standard]>=0.2", "`uvicorn[standard]>=0.2` asks for extras"),
    "a platform in brackets": ("- numpy[subdir=osx-arm64]", "`numpy[subdir=osx-arm64]` has a key in brackets that would be ignored. Known keys are version, build"),
    "a condition in brackets": ('- numpy[version=">=1",when="python >=3.11"]', "has a key in brackets that would be ignored"),
    "a channel in brackets": ("- numpy[channel=bioconda]", "a channel goes before it: `channel::name`."),
    "a file in brackets": ("- numpy[fn=numpy-1-0.conda]", "has a key in brackets that would be ignored"),
    "a key that none knows, in brackets": ("- numpy[features=mkl]", "has a key in brackets that would be ignored"),
    "a caret": ("- numpy ^1.26", "`numpy ^1.26` is not a spec that conda can read (unable to parse version spec: ^1.26).\nconda can read these: numpy, numpy>=2,<3"),
    "three equals signs": ("- numpy===1.26", "`numpy===1.26` is not a spec"),
    "no version behind it": ("- numpy==", "`numpy==` is not a spec"),
    "two names": ("- numpy, scipy", "`numpy, scipy` is not a spec"),
    "a comma at the end": ("- numpy>=1.26,", "`numpy>=1.26,` is not a spec"),
    "an at sign": ("- numpy@1.26", "`numpy@1.26` is not a spec"),
    "typographer's quotes": ("- “numpy>=1”", "`“numpy>=1”` is not a spec"),
    "a version alone": ("- '>=1.2'", "`>=1.2` is not a spec that conda can read (missing package name)"),
    "all packages": ("- 'num*'", "`num*` is not a spec"),
    "another file": ("- -r requirements.txt", "`-r requirements.txt` is an option of conda's or pip's, which means nothing here."),
    "an archive": ("- ./numpy-1-0.conda", "`./numpy-1-0.conda` is an archive's address. Name its channel under `channels`, and the package here."),
    "an archive's path": ("- /srv/numpy-1-0.tar.bz2", "`/srv/numpy-1-0.tar.bz2` is an archive's address."),
    "an archive of this machine": ("- file:///srv/numpy-1-0.conda", "`file:///srv/numpy-1-0.conda` is an archive's address."),
    "a repository": ("- git+https://github.com/o/r", "`git+https://github.com/o/r` is an archive's address."),
    "a negated selector further on": ("- uvloop  # needed, [not win]", "`# [not win]` is not a selector"),
    "a platform further on": ("- uvloop  # tried on [linux-64]", "`# [linux-64]` is not a selector"),
    "Python's version further on": ("- tomli  # for [py>=38, py<311]", "`# [py>=38, py<311]` is not a selector"),
    "conda-lock's selector for several": ("- sel(osx):\n  - appnope\n  - pyobjc", "`sel(osx):` is not known here. For one system alone, write `- appnope  # [osx]` and `- pyobjc  # [osx]`."),
    "a negated selector": ("- uvloop  # [not win]", "`# [not win]` is not a selector that is known here (aarch64, arm64, linux, linux64, osx, unix). Take it out, or write"),
    "two selectors": ("- uvloop  # [linux and x86_64]", "`# [linux and x86_64]` is not a selector"),
    "a selector of a machine": ("- uvloop  # [x86_64]", "`# [x86_64]` is not a selector"),
    "a selector of Python's version": ("- uvloop  # [py>=38] old", "`# [py>=38]` is not a selector"),
    "conda-lock's selector": ("- sel(unix): uvloop>=1", "`sel(unix): uvloop>=1` is not known here. For one system alone, write `- uvloop>=1  # [unix]`."),
    # pip's section
    "pip and nothing": ("- pip: []", "pip: asks for nothing. To repair it, take the section out here, and run `make env-update`."),
    "pip, and its list not indented": ("- pip:\n- tqdm", "pip: asks for nothing."),
    "pip and a text": ("- pip: tqdm", "pip: asks for tqdm. What comes from PyPI is Poetry's:\nwrite it into `dependencies` in pyproject.toml.\nThen take the section"),
    "pip twice": ("- pip: [tqdm]\n- pip: [six]", "pip: asks for tqdm."),
    "pip and a repository": ("- pip:\n  - git+https://github.com/o/r.git@main", "no hash covers a repository or a folder: publish a wheel of it.\nThen"),
    "pip and a repository with a name": ("- pip:\n  - r @ git+https://github.com/o/r.git", "no hash covers a repository"),
    "pip and a repository to edit": ("- pip:\n  - -e git+https://github.com/o/r.git#egg=r", "no hash covers a repository"),
    "pip and a folder": ("- pip:\n  - ./vendor/r", "no hash covers a repository or a folder"),
    "pip and the project": ("- pip:\n  - .[dev]\n  - --editable .", "Poetry's:\nthe project itself is installed anyway.\nThen take"),
    "pip and the project's folder": ("- pip:\n  - -e ./", "Poetry's:\nthe project itself is installed anyway.\nThen take"),
    "pip and a page of links": ("- pip:\n  - -f https://data.example.org/whl/torch.html", "an index is [[tool.poetry.source]] in pyproject.toml."),
    "pip and an index": ("- pip:\n  - --extra-index-url https://ada:secret@pypi.example.com/simple\n  - torch", "asks for --extra-index-url https://***@pypi.example.com/simple, torch. What comes from PyPI is Poetry's:\nan index is [[tool.poetry.source]] in pyproject.toml.\nwrite it into `dependencies`"),
    "pip and a file": ("- pip:\n  - --requirement requirements.txt", "write the lines of that file into `dependencies`"),
    "pip and constraints": ("- pip:\n  - -c constraints.txt", "write the lines of that file"),
    "pip and its options": ("- pip:\n  - --pre", "options of pip mean nothing to Poetry."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_dependency_that_is_none_is_refused_with_its_line_and_the_way_out(tmp_path, case):
    lines, words = REFUSED[case]
    head = "channels:\n- conda-forge\ndependencies:\n- python\n"
    with pytest.raises(UserError) as error:
        read(tmp_path, f"{head}{lines}\n")
    said = without_password(str(error.value))
    assert said.startswith("environment.yml, line 5: ") and words in said
    assert len(read(tmp_path, head).specs) == 1, "the negative control: without it the file is understood"


FILES = {
    # text -> what is said
    "conda's platforms": ("platforms: [linux-64]\n", "line 1: `platforms` would do nothing here. The platforms are an answer"),
    "conda-lock's category": ("category: dev\n", "line 1: `category` would do nothing here. Take the line out. What is for dev alone goes into environment.dev.yml."),
    "the channels' priority": ("channel_priority: flexible\n", "line 1: `channel_priority` would do nothing here. It is always strict: take the line out."),
    "its other spelling": ("channel-priority: strict\n", "line 1: `channel-priority` would do nothing here. It is always strict"),
    "pip beside dependencies": ("pip:\n- tqdm\n", "line 1: `pip` would do nothing here. What comes from PyPI goes into `dependencies` in pyproject.toml."),
    "conda-lock's indexes": ("pip-repositories: [https://pypi.example.com]\n", "line 1: `pip-repositories` would do nothing here. An index for Poetry is [[tool.poetry.source]]"),
    "capitals": ("Dependencies: [numpy]\n", "line 1: `Dependencies` would do nothing here. Known are name, channels, dependencies and variables."),
    "an anchor's own key": ("x-common: &c [numpy]\n", "line 1: `x-common` would do nothing here. Known are"),
    "a key that is merged": ("<<: {platforms: [linux-64]}\n", "`platforms` would do nothing here"),
    "channels in one text": ("channels: conda-forge\n", "line 1: `channels` is not a list. Example of a line: `  - name`."),
    "a folder as a channel": ("channels:\n- ./channel\n", "line 2: `./channel` is not a channel. Example: `- conda-forge`; a folder of this machine is none."),
    "a path as a channel": ("channels:\n- /srv/channel\n", "line 2: `/srv/channel` is not a channel"),
    "conda-build's channel": ("channels:\n- local\n", "line 2: `local` is not a channel"),
    "a variable in a channel": ("channels:\n- https://conda.example.com/t/${TOKEN}/own\n", "is not a channel"),
    "a placeholder in a channel": ("channels:\n- https://conda.example.com/t/<TOKEN>/own\n", "is not a channel"),
    "anaconda-project's packages": ("packages: [numpy]\n", "line 1: `packages` would do nothing here. Known are"),
    "conda-devenv's includes": ("includes: ['{{ root }}/other.yml']\n", "line 1: `includes` would do nothing here"),
    "two channels in one": ("channels:\n- conda-forge, bioconda\n", "line 2: `conda-forge, bioconda` is not a channel"),
    "pixi's channel": ("channels:\n- channel: conda-forge\n  priority: 1\n", "line 2: `{'channel': 'conda-forge', 'priority': 1}` is not a channel"),
    "a channel that is nothing": ("channels:\n-\n", "line 2: `None` is not a channel"),
    "a channel's platform": ("channels:\n- https://conda.example.com/own/noarch/\n", "names a platform. A channel has all of them: write it without /noarch/."),
    "a channel for one system": ("channels:\n- bioconda  # [linux]\n", "line 2: `bioconda` has a selector after it. A channel is for all platforms: take the comment out."),
    "dependencies as a table": ("dependencies:\n  python: '3.11'\n", "line 1: `dependencies` is not a list. Example of a line"),
    "dependencies twice": ("dependencies: [numpy]\ndependencies: [scipy]\n", "line 2: this is not valid YAML: found duplicate key \"dependencies\""),
    "an empty list": ("dependencies: []\n", "`dependencies` lists nothing. Name Python at least: `  - python=3.13`."),
    "a block of text": ("dependencies: |\n  numpy\n", "line 1: `dependencies` is not a list"),
    "dependencies of another file": ("dependencies: !include deps.yml\n", "line 1: `dependencies` is not a list"),
    "an alias of nothing": ("dependencies:\n- *openblas\n", "line 2: this is not valid YAML: found undefined alias"),
    "nothing in it": ("# dependencies: to do\n", "environment.yml has no keys: it needs `channels:` and `dependencies:`, each with a list."),
    "a variable in a variable": ("variables:\n  A: {{ b }}\n", "line 2: `A: …` is not text on one line. Write it in quotes."),
    "no dashes": ("dependencies:\n  numpy\n  scipy\n", "line 1: `dependencies` is not a list"),
    "no blank behind a dash": ("dependencies:\n  - numpy\n  -scipy\n", "line 3: this is not valid YAML: could not find expected ':'. Example of an item: `  - numpy>=2`, with blanks"),
    "another dash": ("dependencies:\n– numpy\n", "line 2: this is not valid YAML"),
    "too few blanks": ("dependencies:\n  - numpy\n - scipy\n", "line 3: this is not valid YAML"),
    "a tab": ("dependencies:\n-\tnumpy\n", "line 2: this is not valid YAML: found character '\\t' that cannot start any token. Example of an item: `  - numpy>=2`, with blanks and no tab."),
    "a greater-than sign": ("dependencies:\n- >=1\n", "line 2: this is not valid YAML"),
    "Jinja's block": ("{% set v = 1 %}\ndependencies: [numpy]\n", "line 1: this is not valid YAML: found character '%' that cannot start any token. It has a variable in it, which nothing here replaces"),
    "two documents": ("dependencies: [python]\n---\nname: b\n", "line 2: this is not valid YAML: but found another document"),
    "no colon": ("dependencies\n- numpy\n", "environment.yml has no keys: it needs `channels:` and `dependencies:`, each with a list."),
    "conda's explicit list": ("@EXPLICIT\nhttps://conda.example.com/linux-64/a-1-0.conda\n", "line 1: this is not valid YAML"),
    "UTF-16": ("dependencies: [python]\n".encode("utf-16"), "environment.yml is not UTF-8 text: "),
    "Latin-1": ("# für alle\ndependencies: [python]\n".encode("latin-1"), "environment.yml is not UTF-8 text: "),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_what_a_file_must_not_have_is_refused_by_name(tmp_path, case):
    text, words = FILES[case]
    if isinstance(text, str) and "ependencies" not in text:
        text += "dependencies: [python]\n"
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    said = str(error.value)
    assert said.startswith("environment.yml") and words in said


def test_a_file_of_the_other_name_is_told_so(tmp_path):
    (tmp_path / "environment.yaml").write_text("dependencies: [python]\n")
    with pytest.raises(UserError, match=r"^environment.yml is missing. Rename yours: git mv environment.yaml environment.yml"):
        environment.read(tmp_path)
    (tmp_path / "environment.yaml").unlink()
    with pytest.raises(
        UserError, match=r"^environment.yml is missing. Take it from git again: git checkout HEAD -- environment.yml"
    ):
        environment.read(tmp_path)


# --- what only a solution shows ---------------------------------------------------------------------

NO_SOLUTION = {
    "two names in one": (["numpy scipy"], "line 4: numpy scipy: there is no such version"),
    "a wheel": (["tqdm-4.0-py3-none-any.whl"], "has no package of this name. Is it on PyPI? Then it goes into `dependencies` in pyproject.toml."),
    "a build that is gone": (["numpy=2.4.6=py39_0"], "line 4: numpy=2.4.6=py39_0: there is no such version or build"),
    "a hash that none has": ([f"numpy[sha256={'0' * 64}]"], "there is no such version or build"),
    "a licence that it has not": (["numpy[license=GPL]"], "there is no such version or build"),
    "one name twice": (["python=3.11", "python=3.13"], "  line 4: python=3.11\n  line 5: python=3.13\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_SOLUTION)
def test_what_no_channel_has_is_named_with_its_line(project, case):
    specs, words = NO_SOLUTION[case]
    folder = project()
    folder.ask(*specs)
    with pytest.raises(UserError) as error:
        folder.lock()
    assert words in str(error.value)


def test_what_is_understood_is_locked(project):
    """Each platform gets what its selectors say, and what is for Windows nobody."""
    folder = project("linux-64", "osx-arm64")
    folder.ask(
        "Python=3.11",
        "numpy >=2, <2.4",
        "scipy=*=py311*",
        f"{folder.channel}::idna=3.11",
        "requests[license=MIT]  # [linux] fast",
        "nothing  # [win]",
    )
    linux, mac = (folder.lock()[platform] for platform in ("linux-64", "osx-arm64"))
    assert {name: linux[name] for name in ("python", "numpy", "scipy", "idna", "requests")} == {
        "python": ("3.11.9", "0"), "numpy": ("2.3.5", "py311_0"), "scipy": ("1.17.1", "py311_0"), "idna": ("3.11", "0"), "requests": ("1.0", "0")
    }  # fmt: skip
    assert linux.keys() - mac.keys() == {"requests"}
