"""The values a deliberation is made of. All frozen; times in seconds, money in micro-dollars."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self, TypeVar

import orjson

T = TypeVar("T")

CHAIRMAN = -1


class Mode(StrEnum):
    """How far a council goes."""

    FULL = "full"
    ANSWERS = "answers"


class Stage(StrEnum):
    """Where a deliberation is."""

    ANSWERING = "answering"
    REVIEWING = "reviewing"
    SYNTHESISING = "synthesising"


class Status(StrEnum):
    """How a deliberation ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    FILTERED = "filtered"
    EMPTY = "empty"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """It was sent, and whoever would have heard its end was lost. No reply has it: it is of calls alone."""


class BallotState(StrEnum):
    """What became of a review's ballot."""

    VALID = "valid"
    REPAIRED = "repaired"
    ABSTAINED = "abstained"
    INVALID = "invalid"


CONTROLS = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1, without tab, newline and carriage return
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of text, and no-width space
    "\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # other invisible ones
    "\ud800-\udfff"
    "\U000e0000-\U000e007f"  # tag characters: a whole hidden alphabet
    "]+"
)
"""What hides, reverses or breaks what is shown. U+200C and U+200D are none of it: scripts and emoji need them."""


def clean(text: str) -> str:
    """The text without what no database or browser can hold: NUL goes, a lone surrogate becomes U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Slot(NamedTuple):
    """A place in the plan that one call fills: a stage and the seat asked (CHAIRMAN for the synthesis).

    A tuple, because at each token things are looked up by it.
    """

    stage: Stage
    seat: int


@dataclass(frozen=True, slots=True)
class Seat:
    """One model's place in the plan, with all that a prompt for it depends on.

    `index` is its place among the members, CHAIRMAN for the chairman. `context` and the caps are tokens.
    `json_schema`: ballots are asked for by schema. `enumerate_ballots`: the schema lists every possible ranking
    where there are few, for servers whose grammar cannot forbid a label to come twice.
    `tokens_per_byte` estimates tokens from above.
    """

    index: int
    name: str
    context: int
    answer_tokens: int
    review_tokens: int
    synthesis_tokens: int
    system_prompt: str = ""
    temperature: float | None = None
    json_schema: bool = True
    enumerate_ballots: bool = False
    tokens_per_byte: float = 0.4


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier question of the conversation and the council's answer to it."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ReviewOrder:
    """What one reviewer sees: seats in the order shown to it, and the label of each in that order."""

    seats: tuple[int, ...]
    labels: tuple[str, ...]


def known_fields(kind: type[Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """What was stored for a value of this kind, without what a later release stored with it.

    That release may run beside this one, or be taken back.
    """
    return {name: value for name, value in stored.items() if name in kind.__match_args__}


def _known(kind: type[T], stored: Mapping[str, Any]) -> T:
    return kind(**known_fields(kind, stored))


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a deliberation will do, settled before it begins.

    `orders` has one entry a member. `common` are the labels, by seat, under which the chairman reads. `nonce` marks
    off the text of others in prompts. `quorum` usable answers, and as many reviews, are enough (None: all); the others
    then have `grace_seconds` left. No stage takes longer than `stage_seconds`.
    """

    question: str
    history: tuple[Exchange, ...]
    mode: Mode
    members: tuple[Seat, ...]
    chairman: Seat
    orders: tuple[ReviewOrder, ...]
    common: tuple[str, ...]
    nonce: str
    prompts: int
    quorum: int | None = None
    grace_seconds: int = 30
    stage_seconds: int = 900

    def seat(self, index: int) -> Seat:
        """A member's seat by its place, or the CHAIRMAN's."""
        return self.chairman if index == CHAIRMAN else self.members[index]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for storing."""
        stored: dict[str, Any] = orjson.loads(orjson.dumps(self))  # a fifth of the time of asdict
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The plan that `as_json` gave; one of an earlier release says nothing of how long to wait."""
        waits = {name: stored[name] for name in ("quorum", "grace_seconds", "stage_seconds") if name in stored}
        return cls(
            question=stored["question"],
            history=tuple(_known(Exchange, each) for each in stored["history"]),
            mode=Mode(stored["mode"]),
            members=tuple(_known(Seat, each) for each in stored["members"]),
            chairman=_known(Seat, stored["chairman"]),
            orders=tuple(ReviewOrder(tuple(each["seats"]), tuple(each["labels"])) for each in stored["orders"]),
            common=tuple(stored["common"]),
            nonce=stored["nonce"],
            prompts=stored["prompts"],
            **waits,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What one call asks: chat messages, the most tokens to write, and the JSON schema that the reply must follow."""

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float | None = None
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out (thinking included) and their price, None where no price is known."""

    input_tokens: int
    output_tokens: int
    cost: int | None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """How a slot was filled: the text that came, how it ended, and words where it did not end well.

    `stand_in`: which of the plan's fallback models it is of, None for the seat's own. `saw`: of one that is recorded
    already, the seats whose answers it was written about (None: those there are now). `kept`: it is what the slot had
    before it was tried again, which brought nothing better.
    """

    text: str
    outcome: Outcome
    error: str = ""
    usage: Usage | None = None
    stand_in: int | None = None
    saw: tuple[int, ...] | None = None
    kept: bool = False

    @property
    def usable(self) -> bool:
        """There is an answer to read, be it cut off."""
        return bool(self.text.strip()) and self.outcome in {Outcome.COMPLETE, Outcome.TRUNCATED}


@dataclass(frozen=True, slots=True)
class Answer:
    """A member's answer."""

    seat: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Ballot:
    """Seats in groups, best first; a group is a tie. A seat that is in no group is unranked, never last."""

    groups: tuple[tuple[int, ...], ...]
    state: BallotState
    reason: str = ""

    @property
    def counts(self) -> bool:
        """It is among the votes."""
        return self.state in {BallotState.VALID, BallotState.REPAIRED}

    def positions(self) -> dict[int, float]:
        """Place of each ranked seat, from 1; those that tie share the mean of their places."""
        places: dict[int, float] = {}
        before = 0
        for group in self.groups:
            for seat in group:
                places[seat] = before + (len(group) + 1) / 2
            before += len(group)
        return places


@dataclass(frozen=True, slots=True)
class Review:
    """A member's review, the ballot read from it, and the seats whose answers it saw."""

    seat: int
    reply: Reply
    ballot: Ballot
    saw: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """One answer's place: by the mean of its positions over the ballots that ranked it. Equal means share a place."""

    seat: int
    place: int
    mean: float
    ballots: int


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The council's answer, and the seats whose answers the chairman saw."""

    reply: Reply
    saw: tuple[int, ...] = ()
