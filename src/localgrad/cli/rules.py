"""The rules by name, and their fields as options."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args, get_type_hints

import docstring_parser
import jax
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

import localgrad as lg
from localgrad.cli.errors import UsageError, explained
from localgrad.cli.target import load
from localgrad.experiments.names import suggest


def rules() -> dict[str, type[lg.Rule]]:
    """Every rule that localgrad exports, by its name."""
    exported = [value for value in vars(lg).values() if inspect.isclass(value)]
    found = [c for c in exported if issubclass(c, lg.Rule) and "name" in vars(c)]
    return {rule.name: rule for rule in sorted(found, key=lambda rule: rule.name)}


def chosen(name: str, option: str) -> lg.Rule:
    """The rule that an option names, with its defaults: ours, or ``package.module:Class``.

    Raises:
        UsageError: if there is none.
        FailedError: if the module of a rule of one's own cannot be imported.
    """
    if ":" in name:
        return _own(name, option)
    if name not in rules():
        raise UsageError(f"there is no rule {name!r}", f"{option} {name}", suggest(name, rules()))
    return rules()[name]()


def _own(name: str, option: str) -> lg.Rule:
    """A rule of the user's own."""
    kind: Any = load(name, option)
    if not (inspect.isclass(kind) and issubclass(kind, lg.Rule)):
        what = f"{name} is no rule"
        do = "write a class under @localgrad.learning_rule that derives from localgrad.Rule"
        raise UsageError(what, f"{option} {name}", do)
    try:
        return kind()
    except TypeError as error:
        do = "give every field of the rule a default"
        raise UsageError(f"{name}() failed: {error}", f"{option} {name}", do) from error


def registry() -> ConstructorRegistry:
    """How a rule is read: an option for each of its fields, with the default and the docstring."""
    found = ConstructorRegistry()
    found.struct_rule(_fields)
    found.primitive_rule(_array)
    found.primitive_rule(_variant)
    return found


def _fields(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The options of a rule, and of how its loop is compiled."""
    default = info.default
    if not isinstance(default, lg.Rule | lg.Loop):
        return None
    kind: Any = type(default)
    types = get_type_hints(kind)
    documented = docstring_parser.parse_from_object(kind).params
    told = {entry.arg_name: entry.description or "" for entry in documented}
    fields = (
        StructFieldSpec(
            name=field.name,
            type=types[field.name],
            default=getattr(default, field.name),
            helptext=_plain(told.get(field.name, "")),
        )
        for field in dataclasses.fields(kind)
    )
    return StructConstructorSpec(partial(_made, default), tuple(fields))


def _made(default: Any, **values: Any) -> Any:
    """A rule with these fields; the default itself if nothing differs, which is then not told."""
    kind = type(default)
    try:
        made = kind(**values)
        return default if made == default else made
    except (TypeError, ValueError) as error:
        what, _, advice = explained(str(error)) or (str(error), "", "see its settings with --help")
        where = f"the settings of {getattr(kind, 'name', kind.__name__)}"
        raise UsageError(what, where, advice) from error


def _plain(text: str) -> str:
    """A field's docstring without marks, and without what matters to programs alone."""
    return " ".join(text.replace("`", "").split()).replace(" Static.", "")


def _array(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """A field that may hold an array (``float | jax.Array``) is a float here."""
    if info.type is not jax.Array and jax.Array not in get_args(info.type):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda texts: float(texts[0]),
        is_instance=lambda value: isinstance(value, float | int | jax.Array),
        str_from_instance=lambda value: [str(float(value))],
    )


def _variant(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A field that holds one of several dataclasses: ``name`` or ``name:field=1,other=2``."""
    members: list[Any] = [k for k in get_args(info.type) if dataclasses.is_dataclass(k)]
    kinds = {_kebab(kind): kind for kind in members}
    if len(kinds) < 2:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(_kebab(kind) + _syntax(kind) for kind in kinds.values()),
        instance_from_str=partial(_read_variant, kinds),
        is_instance=lambda value: type(value) in kinds.values(),
        str_from_instance=lambda value: [_kebab(type(value))],
    )


def _read_variant(kinds: dict[str, Callable[..., Any]], texts: Sequence[str]) -> Any:
    name, _, rest = texts[0].partition(":")
    if name not in kinds:
        raise ValueError(suggest(name, kinds))
    usual = kinds[name]()
    given = dict(re.findall(r"([^=,]+)=([^,]*)", rest))
    unknown = [key for key in given if not hasattr(usual, key)]
    if unknown or (rest and not given):
        raise ValueError(f"write it as {name}{_syntax(kinds[name])}")
    return kinds[name](**{key: type(getattr(usual, key))(text) for key, text in given.items()})


def _kebab(kind: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def _syntax(kind: Any) -> str:
    fields = ",".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
    return f"[:{fields}]" if fields else ""
