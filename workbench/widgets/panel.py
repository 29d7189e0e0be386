"""A panel: a tree of elements shown in the notebook, with real buttons, and a status line.

    view model ── draw ──▶ Node ── tree ──▶ panel.js ──▶ elements
    handlers  ◀── {act, arg, value} ────────── press
    desk.heed ◀── glance ───────────────────── while it is shown

Rules:

- The panel holds no state of its own: it draws what the desk has. A reload of the page draws the
  same tree; a new kernel draws what the catalog keeps.
- What arrives is untrusted: an act that no handler has, or that is no text, does nothing.
- Presses and changes may come in several threads; one at a time draws.

A module of its own is needed for three things that `ipywidgets.HTML` cannot do: a status line
that screen readers hear, focus that stays where it was when a table changes, and buttons inside
a real table. It is less than 8 KB and asks nobody.
"""

from __future__ import annotations

import threading
from abc import ABCMeta, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from workbench.report.markup import Node, el, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.widgets.desk import Desk

    Handler = Callable[[str, str], None]

TEXT_CHARS_MAX: Final = 512
GLANCE: Final = "glance"
# Of several panels on one page one has the desk look; the others ask again later.
GLANCE_MS: Final = 2_000
SPARE_MS: Final = 6_000
_STATIC: Final = Path(__file__).parent / "static"


class _Abstract(ABCMeta, traitlets.MetaHasTraits):
    """Lets a widget have methods that its subclasses must have."""


class Panel(anywidget.AnyWidget, metaclass=_Abstract):
    """One panel of the workbench; subclasses say what it draws and what its buttons do."""

    _esm = _STATIC / "panel.js"
    _css = _STATIC / "panel.css"
    tree: traitlets.List[Any] = traitlets.List().tag(sync=True)
    said = traitlets.Dict().tag(sync=True)
    # Counts presses that were answered, so that a button works again also where nothing changed.
    answered = traitlets.Int(0).tag(sync=True)

    topics: tuple[str, ...] = ()
    # Says what nobody asked for, as the end of a run; else who asked says what came of it.
    speaks = False

    def __init__(self, desk: Desk) -> None:
        super().__init__(tree=to_json(el("div")), said={"ok": True, "text": ""})
        self.desk = desk
        self._drawing = threading.RLock()
        self._handlers: Mapping[str, Handler] = self.handlers()
        self.on_msg(self._pressed)
        self._stop = desk.watch(self._changed)
        self.draw()

    @abstractmethod
    def handlers(self) -> Mapping[str, Handler]:
        """Return what to do for each act, given its argument and value."""

    @abstractmethod
    def view(self) -> Node:
        """Return what to show now."""

    def draw(self) -> None:
        """Show what there is now."""
        with self._drawing:
            drawn = to_json(self.view())
            if drawn != self.tree:
                self.tree = drawn

    def say(self, text: str, *, ok: bool = True) -> None:
        """Put a text on the status line."""
        self.said = {"ok": ok, "text": text}

    def press(self, act: str, arg: str = "", value: str = "") -> None:
        """Do what pressing the button does."""
        handler = self._handlers.get(act)
        self.desk.speaker = self
        try:
            if handler is not None:
                handler(arg, value)
                self.draw()
        finally:
            self.answered += 1

    def close(self) -> None:
        """Take the panel off the page and the desk."""
        self._stop()
        super().close()

    def _pressed(self, _widget: object, content: Any, _buffers: object) -> None:  # noqa: ANN401
        if content.get("act") == GLANCE:
            self.send({"again_ms": GLANCE_MS if self.desk.heed() else SPARE_MS})
            return
        fields = [content.get(name, "") for name in ("act", "arg", "value")]
        if all(isinstance(each, str) and len(each) <= TEXT_CHARS_MAX for each in fields):
            self.press(*fields)

    def _changed(self, topic: str) -> None:
        if topic == "told":
            told, speaker = self.desk.told, self.desk.speaker
            if speaker is self or (speaker is None and self.speaks):
                self.say(told.text, ok=told.ok)
        if topic in self.topics:
            self.draw()


def button(  # noqa: PLR0913 - the parts of a button, named
    label: str,
    act: str,
    arg: str = "",
    *,
    name: str | None = None,
    kind: str = "",
    disabled: bool = False,
    **more: str,
) -> Node:
    """Return a button.

    Args:
        label: What is on it.
        act: What it does.
        arg: On what.
        name: Its name where the label alone does not tell, as in a row of a table.
        kind: `primary`, `danger` or `quiet`.
        disabled: It can be reached, and does nothing.
        more: Further attributes.
    """
    return el(
        "button",
        label,
        type="button",
        class_=f"wb-button {kind}".strip(),
        data_act=act,
        data_arg=arg,
        data_key=f"{act}:{arg}",
        aria_label=name,
        aria_disabled="true" if disabled else None,
        **more,
    )


def confirm(question: str, yes: str, act: str, *, kind: str = "primary") -> Node:
    """Return a question with two buttons; the harmless one has the focus, Escape presses it."""
    return el(
        "div",
        el("p", question, id=f"wb-ask-{act}"),
        el(
            "div",
            button("Cancel", "cancel", kind="quiet", data_focus="", data_escape=""),
            button(yes, f"{act}-yes", kind=kind),
            class_="wb-row",
        ),
        class_="wb-confirm",
        role="alertdialog",
        aria_labelledby=f"wb-ask-{act}",
        data_key=f"confirm-{act}",
    )


def pager(page: int, pages: int, what: str) -> Node | None:
    """Return the buttons to other pages; None where there is only one."""
    if pages < 2:
        return None
    return el(
        "div",
        button("Previous", "page", str(page - 1), name=f"Previous {what}", disabled=page == 0),
        el("span", f"page {page + 1:,} of {pages:,}"),
        button("Next", "page", str(page + 1), name=f"Next {what}", disabled=page + 1 >= pages),
        class_="wb-row wb-pager",
    )


def number(text: str) -> int:
    """Return the whole number that a button's argument is; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
