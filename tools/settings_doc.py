"""Writes .env.example: every setting of every process, its default and its meaning.

The failure it prevents: a setting is added, the page of settings is not, and an operator learns its name from a
process that refuses to start. The settings classes are the only source.

Usage: settings_doc.py [root] [--write]
"""

import argparse
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import pydantic_core
import tree
from pydantic import SecretStr
from pydantic_settings import BaseSettings, NoDecode

from chassis import settings

PAGE = ".env.example"
HEAD = """\
# Every setting of Kopilka, its meaning and its default. A setting that is commented out has that default; one that is
# not has no default and must be set. Generated from the settings classes by tools/settings_doc.py --write.
# Secrets may also be files in /run/secrets, each named after its field (for example `database_url`).
"""


def main() -> int:
    """Compare the page with the settings classes; with --write, write it."""
    options = argparse.ArgumentParser(description="Check or write .env.example.")
    options.add_argument("root", nargs="?", type=Path, default=tree.ROOT)
    options.add_argument("--write", action="store_true", help="write the page")
    chosen = options.parse_args()
    root: Path = chosen.root.resolve()
    groups: list[tuple[str, type[BaseSettings]]] = [("every service", settings.Settings), *settings_classes(root)]
    problems = [problem for _, cls in groups for problem in undescribed(cls)]
    page = rendered(groups)
    if chosen.write:
        (root / PAGE).write_text(page)
    elif not (root / PAGE).is_file() or (root / PAGE).read_text() != page:
        problems.append(f"{PAGE} is out of date; run tools/settings_doc.py --write")
    return tree.report(problems, passed=f"settings: {PAGE} tells all of them")


def settings_classes(root: Path) -> Iterator[tuple[str, type[BaseSettings]]]:
    """Give every settings class of the services and apps, with the name of its member."""
    for path in [*sorted(root.glob("services/*/src/*/settings.py")), *sorted(root.glob("apps/*/src/*/settings.py"))]:
        name = path.parent.name
        module = importlib.import_module(f"{name}.settings")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, BaseSettings) and cls.__module__ == module.__name__:
                yield name, cls


def undescribed(cls: type[BaseSettings]) -> Iterator[str]:
    """Give every setting of this class without a description."""
    for name in own_fields(cls):
        if not cls.model_fields[name].description:
            variable = settings.variable_of(cls, (name,))
            yield f"{variable}: say what it means, in Field(description=...) of {cls.__module__}"


def own_fields(cls: type[BaseSettings]) -> list[str]:
    """Give the fields to document of this class: all but those that every service has in common."""
    common = settings.Settings.model_fields if cls is not settings.Settings else {}
    return [name for name in cls.model_fields if not _is_same(cls, name, common)]


def rendered(groups: list[tuple[str, type[BaseSettings]]]) -> str:
    """Give the page."""
    parts = [HEAD]
    for title, cls in groups:
        parts.append(f"\n# ---- {title} ----\n")
        parts += [_setting(cls, name) for name in own_fields(cls) if not _is_renamed_by_each(cls, name)]
    return "".join(parts)


def _is_same(cls: type[BaseSettings], name: str, common: Any) -> bool:
    if name not in common:
        return False
    return settings.variable_of(cls, (name,)) == settings.variable_of(settings.Settings, (name,))


def _is_renamed_by_each(cls: type[BaseSettings], name: str) -> bool:
    """Tell whether a shared setting has its own name in each service, and is documented there."""
    return cls is settings.Settings and cls.model_fields[name].validation_alias is None


def _setting(cls: type[BaseSettings], name: str) -> str:
    field = cls.model_fields[name]
    meaning = "".join(f"# {line}\n" for line in wrap(field.description or "", 116))
    variable = settings.variable_of(cls, (name,))
    value = ""
    if not field.is_required():
        value = _text(field.get_default(call_default_factory=True), is_plain_text=NoDecode in field.metadata)
    return f"\n{meaning}{'' if field.is_required() else '# '}{variable}={value}\n"


def _text(value: Any, *, is_plain_text: bool) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    plain = pydantic_core.to_jsonable_python(value)
    if is_plain_text and isinstance(plain, list):
        return ",".join(map(str, plain))
    if isinstance(plain, str):
        return plain
    return "" if plain is None else json.dumps(plain)


if __name__ == "__main__":
    raise SystemExit(main())
