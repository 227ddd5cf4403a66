"""Fills the page templates in `templates/`. Every value is escaped; a name that is missing is an error."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vaegaze.errors import plain
from vaegaze.report import formatting

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """The page that a template makes of the values. `jinja2.UndefinedError` if it uses one that is not given."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Templates extend base.html.j2, which brings the style sheet; the functions of `formatting` are filters."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (formatting.number, formatting.degrees, formatting.direction, formatting.duration):
        made.filters[filter_.__name__] = filter_
    return made


def printable(value: Any) -> str:
    """A value on its way into a page; an id may hold control characters or bytes that are not UTF-8."""
    return value if isinstance(value, Markup) else plain(str(value))
