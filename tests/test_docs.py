"""The documentation is true: its links, commands, config snippets and settings exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from sdretrieval.cli import app
from sdretrieval.config import Config, EnsembleConfig, load_config, parse_config, read_index_section
from sdretrieval.errors import SdretrievalError
from tests.helpers.settings_page import SETTINGS, sections_of, settings_page

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"
PAGES = [
    *(HOME / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
    HOME / "benchmarks" / "README.md",
    HOME / "indexes" / "README.md",
]
HISTORY = ("CHANGELOG.md", "removed.md")
"""Pages about what is no more: the settings that they name need not exist."""
REMOVED = (
    "index.refresh",
    "train.batches",
    "train.early_stop",
    "teacher.weights_by",
    "targets.query_weights",
    "targets.query_weights.by",
)
"""Settings of which other pages may say that they were removed."""
FILES = ("csv", "faiss", "html", "json", "jsonl", "npy", "parquet", "safetensors", "trec", "tsv", "yaml")
SHELLS = ("", "bash", "sh")
"""A code block with another language is not run: `text` shows output, or commands of an older version."""
CLI: Any = typer.main.get_command(app)
BASE: dict[str, Any] = {
    "name": "mine",
    "corpus": {"source": "my_corpus"},
    "student": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
    "teacher": {"kind": "ensemble", "members": [{"kind": "ema"}, {"kind": "lexical"}]},
}
"""What a reader's own config is taken to hold besides what a page shows of it."""


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    text: str


FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[Block]:
    """All code blocks of a page."""
    return [Block(language, inside) for _, language, inside in FENCE.findall(text)]


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    """What stands between single backticks, outside code blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


# Links


def slugs(text: str) -> dict[str, bool]:
    """Anchors of a page's headings; whether GitHub and the site make the same one."""
    found = {}
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found[kept.replace(" ", "-")] = not re.search(r"[- ]{2}", kept)
    return found


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Links to files or headings that are not there; in docs/ also links that leave it: the site cannot follow them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            yield f"{target}: no such file"
        elif page.is_relative_to(DOCS) and not there.is_relative_to(DOCS):
            yield f"{target}: leaves docs/, so the site cannot follow it; name the file without a link"
        elif anchor:
            anchors = slugs(text if there == page else there.read_text(encoding="utf8"))
            if anchor not in anchors:
                yield f"{target}: no such heading; there are {', '.join(anchors)}"
            elif not anchors[anchor]:
                yield f"{target}: GitHub and the site name this heading differently; take simpler punctuation"


def missing_files(text: str) -> Iterator[str]:
    """Files named in prose, from the root or from sdretrieval/, that are not there."""
    for code in inline_code(text):
        if re.fullmatch(r"[\w-]+(/[\w-]+)+\.(py|yaml|md)", code):
            places = (HOME / code, HOME / "sdretrieval" / code)
            if "NAME" not in code and not any(place.is_file() for place in places):
                yield f"there is no {code}"


# Commands


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command in a block: comments dropped, continued lines joined, `a && b` parted."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # no command: a table, a file, an apostrophe
        while words:
            end = next((place for place, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
            if words[:end]:
                yield words[:end]
            words = words[end + 1 :]


def broken_commands(text: str) -> Iterator[str]:
    """Commands of this project that would be refused before any work."""
    shown = [words for block in blocks(text) if block.language in SHELLS for words in command_lines(block.text)]
    for words in shown:
        yield from (f"{' '.join(words)}: {problem}" for problem in problems_of(words, whole=True))
    for code in inline_code(text):
        for words in command_lines(code):
            yield from (f"{code}: {problem}" for problem in problems_of(words, whole=False))


def problems_of(words: Sequence[str], whole: bool) -> Iterator[str]:
    """What is wrong with one command. `whole`: nothing may be missing from it, as in a block; prose may shorten."""
    program, *rest = words
    if program == "sdretrieval" and rest:
        yield from _problems_of_cli(rest, whole)
    elif program == "make" and len(rest) == 1 and rest[0].isalpha():
        if not re.search(rf"^{rest[0]}:", (HOME / "Makefile").read_text(encoding="utf8"), re.MULTILINE):
            yield f"the Makefile has no target {rest[0]}"
    elif [program, *rest[:1]] == ["python", "-m"] and rest[1].split(".")[0] in ("benchmarks", "pipelines", "tests"):
        yield from _problems_of_module(rest[1], rest[2:])


def _problems_of_cli(words: Sequence[str], whole: bool) -> Iterator[str]:
    command = CLI
    rest, name = list(words), "sdretrieval"
    own = {option for parameter in CLI.params for option in parameter.opts}  # --version and the like
    while hasattr(command, "commands") and rest and rest != ["--help"]:
        name = rest.pop(0)
        if command is CLI and name in own:
            continue
        if name not in command.commands:
            yield f"there is no command {name}; there are {', '.join(command.commands)}"
            return
        command = command.commands[name]
    if hasattr(command, "commands"):
        return
    try:
        parsed = command.make_context(name, list(rest)).params
    except Exception as problem:  # typer's own copy of click has private classes
        if whole or type(problem).__name__ not in ("MissingParameter", "BadOptionUsage"):
            yield str(problem)
        return
    yield from _problems_of_settings(rest, parsed.get("settings") or ())
    if parsed.get("index"):
        try:
            if parsed["index"].startswith("{"):
                read_index_section(parsed["index"])
        except SdretrievalError as problem:
            yield str(problem)


def _problems_of_module(module: str, words: Sequence[str]) -> Iterator[str]:
    path = HOME.joinpath(*module.split("."))
    source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    if not source.is_file():
        yield f"there is no module {module}"
        return
    options = [word for word in words if word.startswith("--")]
    yield from (f"{module} has no option {option}" for option in options if f'"{option}"' not in source.read_text())
    if path.is_dir():
        named = [word for word in words if word.isidentifier()]
        yield from (f"there is no {module}.{name}" for name in named if not (path / f"{name}.py").is_file())
    yield from _problems_of_settings(words, [word for word in words if re.match(r"[a-z_]+\.[a-z_.0-9]+=", word)])


def _problems_of_settings(words: Sequence[str], settings: Sequence[str]) -> Iterator[str]:
    """Config files that are not there, settings that are none, values that a config refuses."""
    files = [word for word in words if re.fullmatch(r"(configs|indexes)/[\w.-]+\.ya?ml", word)]
    missing = [file for file in files if not (HOME / file).is_file()]
    yield from (f"there is no {file}" for file in missing)
    yield from (f"there is no setting {key}" for key in map(_key, settings) if not is_setting(key))
    given = [one for one in settings if is_setting(_key(one)) and not re.fullmatch(r"[A-Z]+", one.partition("=")[2])]
    config = next((file for file in files if file.startswith("configs/") and file not in missing), None)
    try:
        load_config(HOME / config, given) if config else parse_config(BASE, given)
    except SdretrievalError as problem:
        yield str(problem)


# Settings


def _key(setting: str) -> str:
    return re.split(r"[=:]", setting, maxsplit=1)[0].strip()


def is_setting(dotted: str) -> bool:
    """Whether some config may have this key; places in a list are numbers."""
    sections: list[type[BaseModel]] = [Config]
    for part in dotted.split("."):
        if part.isdigit():
            continue
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if not fields:
            return False
        sections = [found for field in fields for found in sections_of(field.annotation)]
    return True


def unknown_settings(text: str) -> Iterator[str]:
    """Settings named in prose that no config has."""
    top = "|".join(Config.model_fields)
    for code in inline_code(text):
        match = re.fullmatch(rf"(?:--set )?((?:{top})\.[a-z_]\w*(?:\.\w+)*)((?:[=:] ?).*)?", code)
        if match and match[1].rsplit(".", 1)[1] not in FILES and match[1] not in REMOVED and not is_setting(match[1]):
            yield f"{code}: no config has {match[1]}"


def broken_snippets(text: str) -> Iterator[str]:
    """YAML that no config accepts: blocks, and `section: {...}` in prose."""
    snippets = [block.text for block in blocks(text) if block.language == "yaml"]
    top = "|".join(Config.model_fields)
    snippets += [
        code for code in inline_code(text) if re.fullmatch(rf"(?:{top}): \{{.*\}}", code) and "..." not in code
    ]
    for snippet in snippets:
        try:
            parse_config(merged(BASE, yaml.safe_load(snippet)))
        except SdretrievalError as problem:
            yield f"{snippet}\n{problem}"


def merged(base: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the sections that `part` shows; a teacher replaces the teacher."""
    result = dict(base)
    for name, value in part.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict) and name != "teacher"
        result[name] = {**base[name], **value} if both else value
    return result


# Tests


def named(page: Path) -> str:
    """A page's path from the root, for the names of tests."""
    return str(page.relative_to(HOME))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page, page.read_text(encoding="utf8"))) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=named)
def test_files_named_exist(page: Path) -> None:
    assert list(missing_files(page.read_text(encoding="utf8"))) == []


@every_page
def test_commands_are_understood(page: Path) -> None:
    assert list(broken_commands(page.read_text(encoding="utf8"))) == []


@every_page
def test_configs_are_accepted(page: Path) -> None:
    assert list(broken_snippets(page.read_text(encoding="utf8"))) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=named)
def test_settings_exist(page: Path) -> None:
    assert list(unknown_settings(page.read_text(encoding="utf8"))) == []


def test_settings_page_is_that_of_the_schema() -> None:
    again = "docs/settings.md is not that of the schema; write it again: python -m tests.helpers.settings_page"
    assert SETTINGS.read_text(encoding="utf8") == settings_page(), again


def test_site_has_every_page() -> None:
    def files(nav: Any) -> Iterator[str]:
        if isinstance(nav, str):
            yield nav
        else:
            for part in nav.values() if isinstance(nav, dict) else nav:
                yield from files(part)

    nav = yaml.safe_load((HOME / "mkdocs.yml").read_text(encoding="utf8"))["nav"]
    assert sorted(files(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_command_is_listed() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf8")
    corpus = CLI.commands["corpus"].commands
    commands = [*(name for name in CLI.commands if name != "corpus"), *(f"corpus {name}" for name in corpus)]
    assert [name for name in commands if not re.search(rf"^\| `sdretrieval {name}\b", page, re.MULTILINE)] == []


def test_readme_is_short() -> None:
    assert len((HOME / "README.md").read_text(encoding="utf8").splitlines()) <= 150


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("[a](report.md#the-rose)", "no such heading"),
        ("[a](../Makefile)", "leaves docs/"),
        ("## A - b\n[a](#a---b)", "differently"),
    ],
)
def test_a_broken_link_is_found(text: str, problem: str) -> None:
    (found,) = broken_links(DOCS / "index.md", text)
    assert problem in found
    assert list(broken_links(DOCS / "index.md", f"```\n{text}\n```")) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sdretrieval rum configs/stdlib.yaml", "no command rum"),
        ("sdretrieval corpus chek DIR", "no command chek"),
        ("sdretrieval run configs/stdlib.yaml --untill 1/mine", "--untill"),
        ("sdretrieval run", "Missing parameter: config"),
        ("sdretrieval run configs/nowhere.yaml", "no configs/nowhere.yaml"),
        ("sdretrieval run configs/stdlib.yaml --set train.epoch=2", "no setting train.epoch"),
        ("sdretrieval run configs/stdlib.yaml --set train.epochs=many", "train.epochs"),
        ("sdretrieval run configs/stdlib.yaml \\\n  --set teacher.members.7.weight=1", "expected a position"),
        ("sdretrieval evaluate mine --corpus DIR --index '{kind: no such}'", "kind"),
        ("cd x && make nonsense", "no target nonsense"),
        ("python -m benchmarks.nonsense", "no module"),
        ("python -m benchmarks encode nonsense", "no benchmarks.nonsense"),
        ("python -m benchmarks encode --nonsense", "no option --nonsense"),
        ("python -m pipelines.scifact configs/scifact.yaml train.epoch=2", "no setting train.epoch"),
    ],
)
def test_a_broken_command_is_found(line: str, problem: str) -> None:
    (found,) = broken_commands(f"```\n{line}\n```")
    assert problem in found
    assert list(broken_commands(f"```text\n{line}\n```")) == []


def test_prose_may_shorten_a_command_but_not_misspell_it() -> None:
    assert list(broken_commands("say `sdretrieval run`, `sdretrieval search RUN` or `make test`")) == []
    found = list(broken_commands("say `sdretrieval rum`, `sdretrieval run --untill` or `make tests`"))
    assert len(found) == 3


@pytest.mark.parametrize("snippet", ["mine: {keeps: 20}", "mine: {keep: 0}", "name: 3\ncorpus: {source: 4}"])
def test_a_broken_snippet_is_found(snippet: str) -> None:
    assert len(list(broken_snippets(f"```yaml\n{snippet}\n```"))) == 1
    assert list(broken_snippets("```yaml\nmine: {keep: 20}\n```\nand `mine: {keep: 20}`")) == []
    assert len(list(broken_snippets("`mine: {keep: 0}`"))) == 1


def test_a_missing_file_is_found() -> None:
    good = "`configs/stdlib.yaml`, `encode/views.py`, `benchmarks/README.md`, `teachers/NAME.py`, `runs/x/report.html`"
    assert list(missing_files(good)) == []
    assert list(missing_files("`encode/vistas.py`")) == ["there is no encode/vistas.py"]


def test_an_unknown_setting_is_found() -> None:
    good = "`train.epochs`, `corpus.jsonl`, `teacher.members.0.view.stride=64`, `train.loss: margin_mse`, `report.json`"
    assert list(unknown_settings(good)) == []
    assert len(list(unknown_settings("`train.epoch` and `--set corpus.nonsense=1`"))) == 2


def test_every_kind_of_teacher_has_its_table() -> None:
    kinds = {
        get_args(kind.model_fields["kind"].annotation)[0]
        for kind in sections_of(Config.model_fields["teacher"].annotation)
    }
    assert EnsembleConfig.model_fields["kind"].annotation == Literal["ensemble"]
    assert kinds == set(re.findall(r"^### `teacher\.kind: (\w+)`", settings_page(), re.MULTILINE))
