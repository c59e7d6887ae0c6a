"""Says what is wrong with a config: where, what was found, what was expected, what is near."""

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ValidationError

from tagger.errors import UserError, first_line

if typing.TYPE_CHECKING:  # 70 ms that a prediction, which reads no config, need not wait for
    from tagger.config.schema import Section, SectionT


def validate_config(
    schema: "type[SectionT]", plain: Mapping[str, object], summary: str
) -> "SectionT":
    """Turn plain data into a typed config.

    Args:
        schema: Which config.
        plain: All of its keys.
        summary: What an error begins with.

    Raises:
        UserError: naming every invalid key.
    """
    try:
        return schema.model_validate(plain)
    except ValidationError as error:
        raise UserError(summary, _describe(error, schema)) from None


def _describe(error: ValidationError, schema: "type[Section]") -> list[str]:
    from tagger.config.schema import APPROACHES

    keys = list(schema_keys(schema))
    problems = []
    missing: dict[str, list[str]] = {}
    for detail in error.errors():
        loc = detail["loc"]
        if loc[:1] == ("model",) and loc[1:2] and loc[1] in APPROACHES:
            loc = (loc[0], *loc[2:])  # pydantic names the kind of model too, which is no key
        key = ".".join(str(part) for part in loc)
        found = detail["input"]
        if detail["type"] == "extra_forbidden":
            if key in keys:  # of another choice of the group
                section = key.partition(".")[0]
                problems.append(f"{key}: the chosen {section} has no such key")
            else:
                problems.append(f"{shorten(key)}: no such key{nearest(key, keys)}")
        elif detail["type"] == "missing":
            section, _, name = key.rpartition(".")
            missing.setdefault(section, []).append(name)
        elif found is None or found == "???":
            problems.append(f"{key}: must be given")
        elif detail["type"] == "value_error":
            message = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {message}" if key else message)
        else:
            quote = ""
            if detail["type"] == "string_type" and isinstance(found, int | float):
                quote = f" (as text: \"{key}='{found}'\")"
            problems.append(
                f"{key}: found {shorten(repr(found))}, {_expected(detail['msg'])}{quote}"
            )
    for section, names in missing.items():
        if section:
            problems.append(f"{section}: lacks {', '.join(names)}; choose {section}=CHOICE first")
        else:
            problems += [f"{name}: must be given" for name in names]
    return problems


def explain(error: Exception) -> str:
    """Say in a line what an error of Hydra or OmegaConf means, with the key where it has one."""
    key = getattr(error, "full_key", None)
    return f"{key}: {short_line(error)}" if key else short_line(error)


def short_line(error: Exception) -> str:
    """Return the first line of what an error says, cut to 160 letters."""
    return shorten(first_line(error), 160)


def shorten(text: str, longest: int = 80) -> str:
    """Cut a text that is longer than a line of a message may be."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _expected(message: str) -> str:
    return re.sub(r"^Input should be( a| an)?( valid)? ", "expected ", message)


def nearest(name: str, names: Sequence[str]) -> str:
    """Return " (did you mean NAME?)": the closest as a whole, else by its last part; or nothing."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:
        by_leaf = {known.rsplit(".", 1)[-1]: known for known in names}
        leaf = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.75)
        close = [by_leaf[leaf[0]]] if leaf else []
    return f" (did you mean {close[0]}?)" if close else ""


def schema_keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a schema, sections included."""
    for name, field in schema.model_fields.items():
        yield prefix + name
        annotation = field.annotation
        for option in typing.get_args(annotation) or (annotation,):
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from schema_keys(option, f"{prefix}{name}.")
