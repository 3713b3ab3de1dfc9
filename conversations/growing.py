"""The texts of one deliberation while they grow, and the frames that show them.

Channel layers lose messages in silence, so a frame stands alone: it holds all that grew since the checkpoint before the
last one. What a consumer needs to know of it, numbers being revisions of the deliberation:

- `revision`: how far the rows were when it was made.
- `changed`: when something other than text last changed; whoever has less must read the rows first.
- `base`: whoever has less than this cannot use the frame.
- `checkpoint`: the last checkpoint. `tail` is for whoever has it, `full` for the others.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from conversations.markdown import LiveText
from conversations.naming import rewriter, slot_id
from council.core import ballots
from council.core.events import StageStarted, StandInAsked
from council.core.values import Plan, Slot, Stage
from council.models import Contribution
from council.record import slots_of

EARLY = 20  # pieces of a review among which its critique is looked for


@dataclass(slots=True)
class _Text:
    """A slot whose text grows on the page. Marks are counts of closed blocks: at the last checkpoint, and before it.

    `name`: of its card on the page. `begun`: there is more than thoughts.
    """

    name: str
    live: LiveText
    raw: list[str] = field(default_factory=list)
    shown: int = 0
    pieces: int = 0
    mark: int = 0
    mark_before: int = 0
    changed_at: int = 0
    begun: bool = False
    readable: bool = False
    grown: bool = False
    full: str = ""
    tail: str = ""


class GrowingTexts:
    """On the loop, and told in the order in which things happen; `revision` is that of the rows when it begins."""

    def __init__(self, deliberation_id: UUID, plan: Plan, revision: int) -> None:
        self._deliberation = deliberation_id
        self._plan = plan
        self._texts: dict[Slot, _Text] = {}
        self._checkpoint = self._base = revision
        self._generation = self._kept = 0  # of checkpoints: the one to come, and the last that is written
        # Once, and not for each frame: to look them up takes as long as a text that grows.
        self._tokens = _("%(count)s tok")
        self._thinking, self._writing = str(Contribution.State.THINKING.label), str(Contribution.State.WRITING.label)

    def begin(self, event: StageStarted | StandInAsked) -> None:
        """A stage begins, and its slots begin to grow; or one of them begins afresh."""
        for slot in slots_of(event):
            self._texts[slot] = _Text(slot_id(self._deliberation, slot), LiveText(rewriter(self._plan, slot)))

    def begun(self, revision: int) -> None:
        """The rows of the stage are written: they hold all that there is."""
        self._checkpoint = self._base = revision

    def keep(self, slots: Container[Slot]) -> None:
        """Only these grow still."""
        self._texts = {slot: text for slot, text in self._texts.items() if slot in slots}

    def grew(self, slot: Slot, piece: str) -> bool:
        """Take a piece in, of thinking where it is empty. Whether it is worth a frame at once.

        For every piece, so it only appends.
        """
        text = self._texts[slot]
        text.pieces += 1
        text.changed_at = self._generation
        text.grown = True
        if piece:
            text.begun = True
            text.raw.append(piece)
        return not text.readable and self._begins(slot, text)

    def _begins(self, slot: Slot, text: _Text) -> bool:
        """Whether this is the first sign of life, or the first that people can read; both are shown at once."""
        if slot.stage is Stage.REVIEWING and text.pieces <= EARLY:
            text.readable = bool(ballots.critique("".join(text.raw)))
        else:
            text.readable = bool(text.raw)
        return text.readable or text.pieces == 1

    def marks(self) -> dict[Slot, int]:
        """How many blocks are closed, of what a checkpoint is about to write."""
        self._generation = self._kept + 1  # the same again where the last could not be written
        return {slot: len(self._advance(slot, text).closed) for slot, text in self._texts.items()}

    def checkpointed(self, marks: dict[Slot, int], revision: int) -> None:
        """The checkpoint is written."""
        self._base, self._checkpoint = self._checkpoint, revision
        self._kept = self._generation
        for slot, text in self._texts.items():
            # What has begun afresh meanwhile has none of the blocks that were counted.
            text.mark_before, text.mark = text.mark, min(marks.get(slot, text.mark), len(text.live.closed))
            text.grown = True

    def _advance(self, slot: Slot, text: _Text) -> LiveText:
        """Give the renderer what came since; of a review only its critique is for people."""
        if text.raw:
            if slot.stage is Stage.REVIEWING:
                text.raw = ["".join(text.raw)]
                critique = ballots.critique(text.raw[0])
                text.live.feed(critique[text.shown :])
                text.shown = max(text.shown, len(critique))
            else:
                text.live.feed("".join(text.raw))
                text.raw.clear()
        text.live.advance()
        return text.live

    def frame(self, revision: int, changed: int) -> dict[str, Any] | None:
        """All that grew since the checkpoint before the last; None if nothing did since the last frame."""
        if not any(text.grown for text in self._texts.values()):
            return None
        full, tail = [], []
        for slot, text in self._texts.items():
            if text.changed_at < self._generation - 1 or not text.pieces:
                continue
            if text.grown:
                text.grown = False
                self._render(slot, text)
            full.append(text.full)
            tail.append(text.tail)
        return {
            "type": "frame",
            "deliberation": self._deliberation.hex,
            "revision": revision,
            "changed": changed,
            "base": self._base,
            "checkpoint": self._checkpoint,
            "full": "".join(full),
            "tail": "".join(tail),
        }

    def _render(self, slot: Slot, text: _Text) -> None:
        live, name = self._advance(slot, text), text.name
        open_end = "".join(live.closed[text.mark :]) + live.tail()
        tokens = self._tokens % {"count": text.pieces}
        word = self._writing if text.begun else self._thinking
        state = (
            f'<hx-partial hx-target="#{name}-state" hx-swap="textContent">{word}</hx-partial>'
            f'<hx-partial hx-target="#{name}-tokens" hx-swap="textContent">{tokens}</hx-partial>'
        )
        text.full = (
            f'<hx-partial hx-target="#{name}-open" hx-swap="outerHTML">'
            f"{''.join(live.closed[text.mark_before : text.mark])}"
            f'<div id="{name}-open">{open_end}</div></hx-partial>{state}'
        )
        text.tail = f'<hx-partial hx-target="#{name}-open" hx-swap="innerHTML">{open_end}</hx-partial>{state}'
