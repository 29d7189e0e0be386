"""Markup as a tree of values: what a panel shows, safe by construction.

    view model ──el()──▶ Node ──to_json──▶ the panel's module, which creates elements
                          └─────to_html──▶ str, for a page

Rules:

- Text is text: nothing that goes in as a string can become an element or an attribute.
- Only the tags and attributes below exist, here and in the panel's module, which checks them
  again: what it is sent may come from a saved notebook. None of them runs a script or asks a
  network: no `on…`, `href`, `src` or `style`.
- Keys pass `words.key_text`, other foreign text `words.clean`, before they come here.

Not here: what is shown, which the widgets say, and how it looks, which their style sheet says.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TAGS: Final = frozenset({
    *("div", "section", "header", "p", "span", "strong", "em", "code", "h3", "h4"),
    *("ul", "ol", "li", "dl", "dt", "dd", "details", "summary", "figure", "figcaption"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("button", "label", "input", "select", "option"),
    *("svg", "path", "rect", "title"),
})  # fmt: skip
ATTRIBUTES: Final = frozenset({
    *("class", "role", "scope", "title", "colspan", "for", "id", "tabindex"),
    *("type", "value", "disabled", "selected", "placeholder", "maxlength"),
    *("d", "x", "y", "width", "height", "viewBox", "fill", "preserveAspectRatio"),
})  # fmt: skip
PREFIXES: Final = ("aria-", "data-")
_VOID: Final = frozenset({"input"})
_RENAMED: Final = {"class_": "class", "for_": "for", "view_box": "viewBox"}


@dataclass(frozen=True, slots=True)
class Node:
    """An element: its tag, its attributes, and elements and texts in it."""

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Node | str, ...]


Child = Node | str | None


def el(
    tag: str, *children: Child | Iterable[Child], **attributes: str | float | bool | None
) -> Node:
    """Return an element.

    Args:
        tag: One of TAGS.
        children: Elements, texts, or iterables of them; None is left out.
        attributes: `class_` for class, `aria_label` for aria-label, `view_box` for viewBox;
            None and False are left out, True is the empty text.
    """
    assert tag in TAGS, tag
    given = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        known = _RENAMED.get(name, name.replace("_", "-") if "_" in name else name)
        assert known in ATTRIBUTES or known.startswith(PREFIXES), known
        given.append((known, "" if value is True else str(value)))
    return Node(tag, tuple(given), tuple(_flat(children)))


def _flat(children: Iterable[Child | Iterable[Child]]) -> Iterable[Node | str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Node | str):
            yield child
        else:
            yield from _flat(child)


def to_json(node: Node) -> list[Any]:
    """Return a tree as lists: `[tag, {attribute: text}, [child, …]]`, texts as they are."""
    children = [each if isinstance(each, str) else to_json(each) for each in node.children]
    return [node.tag, dict(node.attributes), children]


def to_html(node: Node) -> str:
    """Return a tree as HTML."""
    given = "".join(f' {name}="{escape(value)}"' for name, value in node.attributes)
    if node.tag in _VOID:
        return f"<{node.tag}{given}>"
    inner = "".join(
        escape(each, quote=False) if isinstance(each, str) else to_html(each)
        for each in node.children
    )
    return f"<{node.tag}{given}>{inner}</{node.tag}>"


def text_of(node: Node) -> str:
    """Return all text of a tree, its parts apart."""
    parts = (each if isinstance(each, str) else text_of(each) for each in node.children)
    return " ".join(part for part in parts if part)
