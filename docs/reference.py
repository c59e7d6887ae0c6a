"""Writes docs/config.md and docs/api.md out of schemas and docstrings (`make docs`)."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from pydantic import BaseModel

import tagger
from tagger.config import schema
from tagger.config.composition import compose_config
from tagger.files import REPO_ROOT, write_text
from tagger.reporting.markdown import markdown_table
from tagger.reporting.schemas import type_in_words
from tagger.service import settings

DOCS = REPO_ROOT / "docs"
SOURCE = REPO_ROOT / "src" / "tagger"


class Part(NamedTuple):
    """A section of docs/config.md: keys that are set together."""

    heading: str
    about: str
    keys: type[BaseModel]
    prefix: str = ""
    """What stands before each key, with its dot."""
    script: str = ""
    """Name of the config that has the defaults; "": the schema has them."""
    given: tuple[str, ...] = ()
    """Overrides that it cannot be composed without, or that choose what the section is about."""


PARTS = (
    Part("train.py", "`python train.py KEY=VALUE ...`", schema.TrainConfig, "", "train"),
    Part("data", "of `data=gold`", schema.DataConfig, "data.", "train"),
    Part("model: transformer", "of `model=minilm`", schema.TransformerConfig, "model.", "train"),
    Part(
        "model: frozen",
        "of `model=frozen`",
        schema.FrozenConfig,
        "model.",
        "train",
        ("model=frozen",),
    ),
    Part(
        "model: linear",
        "of `model=linear`",
        schema.LinearConfig,
        "model.",
        "train",
        ("model=linear",),
    ),
    Part(
        "model: rules", "of `model=rules`", schema.RulesConfig, "model.", "train", ("model=rules",)
    ),
    Part(
        "model: ensemble",
        "of `model=ensemble`",
        schema.EnsembleConfig,
        "model.",
        "train",
        ("model=ensemble", "model.runs=[A,B]"),
    ),
    Part("training", "of `training=default`", schema.TrainingConfig, "training.", "train"),
    Part("decision", "of `decision=argmax`", schema.DecisionConfig, "decision.", "train"),
    Part(
        "distill",
        "of `distill=source`; without a choice nothing is distilled",
        schema.DistillConfig,
        "distill.",
        "train",
        ("model=student", "distill=source"),
    ),
    Part("tracking", "of `tracking=none`", schema.TrackingConfig, "tracking.", "train"),
    Part(
        "evaluate.py",
        "`python evaluate.py KEY=VALUE ...`",
        schema.EvaluateConfig,
        "",
        "evaluate",
        ("run=NAME",),
    ),
    Part(
        "optimize.py",
        "`python optimize.py KEY=VALUE ...`: the sections of training, and these",
        schema.OptimizeConfig,
        "",
        "optimize",
    ),
    Part("search", "of `search=quick`", schema.SearchConfig, "search.", "optimize"),
    Part(
        "tagger export",
        "`tagger export --run NAME KEY=VALUE ...`",
        schema.ExportConfig,
        "",
        "export",
        ("run=NAME",),
    ),
    Part(
        "compress",
        "of `compress=int8`",
        schema.CompressConfig,
        "compress.",
        "export",
        ("run=NAME",),
    ),
    Part(
        "tagger build",
        "`tagger build --data FILE KEY=VALUE ...`; its options set most of these",
        schema.BuildConfig,
        "",
        "build",
        ("files=[FILE]", "name=NAME"),
    ),
    Part(
        "build",
        "of `build=default`",
        schema.BuildSteps,
        "build.",
        "build",
        ("files=[FILE]", "name=NAME"),
    ),
    Part("A model of a build", "each of `build.models`, and `build.student`", schema.BuildModel),
    Part("service.yaml", "`tagger serve --config service.yaml`", settings.ServiceConfig),
)


def config_page() -> str:
    """Return docs/config.md: every key of every config."""
    lines = [
        "<!-- written by make docs -->",
        "# Config keys",
        "",
        "Every key that a config may have: its type and range, its default, and what it does.",
        "Whatever else is given is refused before anything starts, all of it in one message.",
        "`python train.py --cfg job` shows a config as it is composed. The choices of a section,",
        "such as `decision=threshold`, are files of [configs/](../configs); their defaults may be",
        "others than those below.",
        "",
    ]
    for part in PARTS:
        lines += [f"## {part.heading}", "", f"{_sentence(part.about)}", "", *_table(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def api_page() -> str:
    """Return docs/api.md: the names that programs and notebooks may import."""
    lines = [
        "<!-- written by make docs -->",
        "# Python names",
        "",
        "What programs may import; [Python](python.md) shows it at work.",
        "",
    ]
    for name in sorted(tagger.__all__, key=str.lower):
        module = SOURCE.joinpath(*tagger._PLACES[name].split(".")[1:]).with_suffix(".py")
        lines += _described(_public(module)[name], "##", "tagger.")
    results = SOURCE / "results.py"
    about = ast.get_docstring(ast.parse(results.read_text(encoding="utf-8"))) or ""
    lines += ["## tagger.results", "", *_prose(about)]
    for node in _public(results).values():
        if isinstance(node, ast.FunctionDef):
            lines += _described(node, "###", "tagger.results.")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write both pages."""
    write_text(DOCS / "config.md", config_page())
    write_text(DOCS / "api.md", api_page())


def rows(part: Part) -> Iterator[list[str]]:
    """Yield key, type, default and description of each key of a part."""
    defaults: Any = part.keys().model_dump() if part.keys is settings.ServiceConfig else None
    if part.script:
        defaults = _composed(part.script, part.given)
        for step in part.prefix.split(".")[:-1]:
            defaults = defaults[step]
    given = {text.partition("=")[0] for text in part.given}
    yield from _rows(part.keys, part.prefix, defaults, given)


@cache
def _composed(script: str, given: tuple[str, ...]) -> Any:
    return OmegaConf.to_container(compose_config(script, given), resolve=True)


def _rows(
    keys: type[BaseModel], prefix: str, defaults: Mapping[str, Any] | None, given: set[str]
) -> Iterator[list[str]]:
    schemas, described = keys.model_json_schema(), _descriptions(keys)
    for name, field in schemas["properties"].items():
        about = described.get(name, "")
        inner = _section(keys, name)
        if inner and inner not in _HEADINGS:
            below = defaults.get(name) if defaults else None
            yield from _rows(inner, f"{prefix}{name}.", below, given)
            continue
        if inner and not about:
            continue  # a section of its own, whose heading says the key
        default = "" if defaults is None else f"`{_yaml(defaults.get(name))}`"
        if f"{prefix}{name}" in given:
            default = "to be given"
        yield [f"`{prefix}{name}`", _words(field), default, " ".join(about.split())]


def _table(part: Part) -> list[str]:
    found = list(rows(part))
    if not any(row[2] for row in found):
        return markdown_table(["key", "type", "what it does"], [[*r[:2], r[3]] for r in found])
    return markdown_table(["key", "type", "default", "what it does"], found)


_HEADINGS: dict[type[BaseModel], str] = {part.keys: part.heading for part in PARTS}


def _section(keys: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section that a key holds, if it holds one."""
    annotation = keys.model_fields[name].annotation
    for option in getattr(annotation, "__args__", (annotation,)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _words(field: Mapping[str, Any]) -> str:
    words = type_in_words(field).replace("boolean", "true or false")
    words = re.sub(r"\bstring\b", "text", words)
    for keys, heading in _HEADINGS.items():
        words = words.replace(keys.__name__, heading)
    return words


def _yaml(value: Any) -> str:
    """Return a value as it is given; a whole list or mapping of sections as `...`."""
    if isinstance(value, list | dict) and "{" in str(value) and len(str(value)) > 2:
        return "..."
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace("'", "") if isinstance(value, list) else str(value)


def _descriptions(keys: type[BaseModel]) -> dict[str, str]:
    """Return what stands below each field of a class and of those that it is made from."""
    module = SOURCE.joinpath(*keys.__module__.split(".")[1:]).with_suffix(".py")
    classes = _public(module)
    found: dict[str, str] = {}
    for one in reversed(keys.__mro__):
        body = getattr(classes.get(one.__name__), "body", [])
        for field, after in pairwise(body):
            match field, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = text
    return found


Definition = ast.ClassDef | ast.FunctionDef


def _public(module: Path) -> dict[str, Definition]:
    """Return the public classes and functions of a module, in its order."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {node.name: node for node in found if not node.name.startswith("_")}


def _described(node: Definition, level: str, owner: str) -> list[str]:
    """Return the section of a class, with its public methods, or of a function."""
    members = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    signature = node
    if isinstance(node, ast.ClassDef):
        signature = next((one for one in members if one.name == "__init__"), node)
    lines = [f"{level} {owner}{node.name}", ""]
    if isinstance(signature, ast.FunctionDef):
        call = f"{owner}{node.name}({_arguments(signature)})"
        result = (
            f" -> {ast.unparse(node.returns)}"
            if isinstance(node, ast.FunctionDef) and node.returns
            else ""
        )
        lines += ["```python", f"{call}{result}", "```", ""]
    lines += _prose(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        for one in members:
            if not one.name.startswith("_"):
                lines += _described(one, f"{level}#", f"{node.name}.")
    return lines


def _arguments(function: ast.FunctionDef) -> str:
    arguments = ast.unparse(function.args)
    return re.sub(r"^self(, )?", "", arguments)


def _prose(docstring: str) -> list[str]:
    """Return a docstring in Google's style as Markdown."""
    lines: list[str] = []
    for line in docstring.splitlines():
        if found := re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line):
            lines += [f"**{found[1]}**", ""]
        elif found := re.match(r"    ([\w*]+): (.*)", line):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif line.startswith("    "):
            lines.append(f"  {line.strip()}" if line.startswith("     ") else line.strip())
        else:
            lines.append(line)
    return [*lines, ""]


def _sentence(about: str) -> str:
    return f"Defaults {about}." if about.startswith("of ") else f"{about[:1].upper()}{about[1:]}."


if __name__ == "__main__":
    main()
