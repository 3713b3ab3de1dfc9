"""What changed in a conversation since a viewer last heard of it: the one answer to a reconnection, a look, a poll.

A viewer is told apart by the last turn it has and the revision of that turn's deliberation. What it gets is htmx
partials that bring its page to what a reload would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from django.http import QueryDict
from django.template.loader import render_to_string
from django.templatetags.static import static

from conversations import presenting, reading
from conversations.models import Conversation
from conversations.reading import TurnRows
from conversations.showing import TurnView
from council.models import Deliberation
from council.threads import Threads
from governance.rows import Statement

# What changed is drawn in one thread: it is work of the processor, and where many pages change at the same moment the
# deliberations themselves must not wait for it.
drawing = Threads(1, "drawing")


@dataclass(frozen=True, slots=True)
class Known:
    """What a viewer has: the last turn (0: none), its deliberation's revision, and the conversation's title.

    `stage` is that of the turn's deliberation when the viewer was last brought up to date; empty where nobody knows.
    """

    turn: int
    revision: int
    title: str = ""
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """HTML that brings a viewer up to date, what it then has, its last deliberation, and whether that still goes on."""

    html: str
    known: Known
    deliberation: str
    unfinished: bool

    def as_message(self) -> dict[str, object]:
        """As the page's script reads it, over a socket or as the answer to a look."""
        return page_message(self.html, self.known, unfinished=self.unfinished)


def page_message(html: str | None, known: Known, *, unfinished: bool) -> dict[str, object]:
    """HTML for a page (None: nothing is new), and what it then has: it says so when it looks again."""
    content = {} if html is None else {"content": html}
    return {**content, "after": known.turn, "revision": known.revision, "unfinished": unfinished}


def since(conversation: Conversation, known: Known) -> Changes:
    """Everything from the viewer's last turn on that it does not have."""
    return _changes(conversation, reading.turns(conversation.pk, known.turn, known.revision), known)


def look(visible: Statement, conversation_id: UUID, known: Known) -> Changes | None:
    """The same, in one way to the database with the question whether the viewer may see it: `visible` then finds it."""
    found = reading.look(visible, conversation_id, known.turn, known.revision)
    return found and _changes(*found, known)


def _changes(conversation: Conversation, turns: Sequence[TurnRows], known: Known) -> Changes:
    parts: list[str] = []
    if known.title != conversation.title:
        shown = {"id": conversation.pk.hex, "title": conversation.title}
        parts.append(render_to_string("conversations/_title_changed.html", shown))
    for rows in turns:
        if rows.turn.pk != known.turn:
            parts.append(_partial("#turns", "beforeend", _turn(presenting.view(rows))))
        elif rows.deliberation.revision > known.revision:
            parts += _steps(rows, known.revision, known.stage)
    if not turns:
        return Changes("".join(parts), Known(known.turn, known.revision, conversation.title), "", unfinished=False)
    last, deliberation = turns[-1].turn, turns[-1].deliberation
    if parts:
        parts.append(_composer_state(deliberation))
    return Changes(
        "".join(parts),
        Known(last.pk, deliberation.revision, conversation.title, deliberation.stage),
        deliberation.id.hex,
        unfinished=deliberation.unfinished,
    )


def step(rows: TurnRows, before: int, had: str) -> str:
    """HTML for whoever has all of a turn up to the revision `before`, when its deliberation was in the stage `had`."""
    return "".join(_steps(rows, before, had)) + _composer_state(rows.deliberation)


@cache
def can_draw() -> bool:
    """Whether static files are collected here, whose addresses are in every card; a worker alone can do without."""
    try:
        static("icons.svg")
    except ValueError:
        return False
    return True


def known_from(query: QueryDict) -> Known:
    """What a viewer says in an address: `after`, `revision` and `title`; what is not a number counts as nothing."""
    title = query.get("title", "")
    after, revision = query.get("after", ""), query.get("revision", "")
    if not (after.isdecimal() and revision.isdecimal() and len(after) < 18 and len(revision) < 9):
        return Known(0, 0, title)
    return Known(int(after), int(revision), title)


def _turn(view: TurnView, had: str = "") -> str:
    return render_to_string("conversations/_turn.html", {"view": view, "had": had})


def _steps(rows: TurnRows, before: int, had: str) -> list[str]:
    view = presenting.view(rows)
    if rows.deliberation.layout > before:
        return [_partial(f"#{view.id}", "outerMorph", _turn(view, had))]
    return _changed(view, before)


def _composer_state(deliberation: Deliberation) -> str:
    return render_to_string("conversations/_composer_state.html", {"unfinished": deliberation.unfinished})


def _changed(view: TurnView, revision: int) -> list[str]:
    parts = [
        _partial(f"#{view.id}-rail", "outerMorph", render_to_string("conversations/_rail.html", {"view": view})),
        _partial(f"#{view.id}-strip", "outerMorph", view.strip_html),
    ]
    cards = [*view.answers, *view.reviews, *([view.synthesis] if view.synthesis else [])]
    parts += [_partial(f"#{card.id}", "outerMorph", card.html) for card in cards if card.revision > revision]
    return parts


def _partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'
