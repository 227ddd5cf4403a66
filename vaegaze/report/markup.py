"""HTML as text: whatever an element holds is escaped, unless it is an element itself."""

import html
from typing import Any

from vaegaze.errors import plain

EMPTY = {"br", "img", "link", "meta", "source"}  # elements that have no end tag


class Html(str):
    """Text that is HTML already."""


def element(name: str, /, *content: Any, **attributes: Any) -> Html:
    """`class_="a"` becomes class="a", and `http_equiv` http-equiv."""
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(each)}"' for key, each in attributes.items())
    if name in EMPTY:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{together(*content)}</{name}>")


def together(*content: Any) -> Html:
    return Html("".join(each if isinstance(each, Html) else escape(each) for each in content))


def escape(value: Any) -> str:
    """A person's id may hold anything: brackets, control characters, bytes that are no UTF-8."""
    return html.escape(plain(str(value)))


def table(head: list[Any], rows: list[list[Any]], **attributes: Any) -> Html:
    """Each row's first cell is its heading; a table that is wider than the screen scrolls by itself."""
    lines = [element("tr", element("th", first, scope="row"), *(element("td", each) for each in rest))
             for first, *rest in rows]  # fmt: skip
    heading = [element("thead", element("tr", *(element("th", each, scope="col") for each in head)))] if head else []
    whole = element("table", *heading, element("tbody", *lines), **attributes)
    return element("div", whole, class_="scrolls", tabindex=0)
