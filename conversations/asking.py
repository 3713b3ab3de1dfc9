"""From a question to a turn with its deliberation and the job that will carry it out. One transaction; no provider."""

from dataclasses import replace
from http import HTTPStatus
from uuid import UUID, uuid4, uuid5

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from psycopg.errors import ForeignKeyViolation

from accounts import limits, roles
from accounts.models import User
from conversations import jobs, titles
from conversations.markdown import clean
from conversations.models import Conversation, Turn
from council import call_rows, calls, claiming, plans, trail
from council.core.aliases import rewrite
from council.core.errors import CouncilError
from council.core.prompts import to_letters
from council.core.values import CHAIRMAN, Exchange, Mode, Outcome, Plan
from council.models import Council, Deliberation
from governance import rows
from governance.rows import Statement

logger = structlog.get_logger(__name__)

QUESTION_CHARACTERS = 50_000
HISTORY_TURNS = 20


class _UnderWay(Exception):
    """The last question has no answer yet that the next could carry."""


class Refused(CouncilError):
    """The question was not asked; the message says why and what to do. `conflict`: something else is under way.

    `rule`: which of the site's rules refused it, for the audit trail; empty where it was a mistake of typing. `limit`:
    which limit was reached, if that is why.
    """

    def __init__(
        self, message: str, *, conflict: bool = False, rule: str = "", limit: limits.Reached | None = None
    ) -> None:
        super().__init__(message)
        self.conflict = conflict
        self.rule = rule
        self.limit = limit

    @property
    def status(self) -> HTTPStatus:
        """What it is over HTTP."""
        if self.limit:
            return HTTPStatus.TOO_MANY_REQUESTS
        return HTTPStatus.CONFLICT if self.conflict else HTTPStatus.UNPROCESSABLE_ENTITY


def ask(
    user: User,
    question: str,
    council: Council | None,
    mode: Mode = Mode.FULL,
    conversation: Conversation | None = None,
    request_id: UUID | None = None,
    by: str = "",
) -> Turn:
    """Store the question and hand it to the workers. The same `request_id` again, for a new conversation
    or in the same one, gives the same turn.

    `by`: what asks in this person's place, in the audit trail: the shell. Raises Refused: empty or too long, no such
    council or one just removed, a council that is not ready, a deliberation under way, more than this person may.
    """
    question = checked(question)
    try:
        often(user)
    except Refused:
        earlier = _asked_before(user, request_id) if request_id else None
        if earlier is not None:
            return _same_question(earlier, question)
        raise
    if not user.may(roles.ASK):
        raise Refused(
            _("Your account may read here, and not ask. An administrator can change that."), rule="may not ask"
        )
    if council is None:
        nothing = _("Choose a council. If there is none to choose, ask an administrator for one.")
        raise Refused(nothing, rule="no such council for this person")
    request_id = request_id or uuid4()
    try:
        return _store(user, question, council, mode, conversation, request_id, by)
    except (plans.NotReady, IntegrityError, _UnderWay, rows.NotThere) as error:
        earlier = _asked_before(user, request_id)
        if earlier is not None:
            return _same_question(earlier, question)
        if isinstance(error, rows.NotThere):
            raise no_room() from error
        if isinstance(error, plans.NotReady):
            raise Refused(str(error), rule="council not ready") from error
        if isinstance(error.__cause__, ForeignKeyViolation):
            raise Refused(_("This council has just been removed. Choose another.")) from error
        raise Refused(
            _("The council is still at work on your last question. Wait for its answer or stop it, then ask again."),
            conflict=True,
        ) from error


def often(user: User) -> None:
    """Count that this person asks. Raises Refused where that is too often. Whoever is at the shell may."""
    if user.is_shell:
        return
    try:
        limits.take(limits.What.ASKS, user)
    except limits.Reached as reached:
        raise Refused(str(reached), limit=reached) from reached


def room(user: User) -> list[Statement]:
    """The statements that go first where something is to be begun for this person.

    They raise rows.NotThere where this person, or a group of theirs, has as much at work as they may; whoever begins
    something for the same waits for the end of this transaction. Whoever is at the shell may.
    """
    if user.is_shell:
        return []
    statements: list[Statement] = []
    for limit, whose in limits.at_once(limits.What.GOING, user):
        statements.append(("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"at work: {whose}"]))
        of_group = limit.per == limits.Per.GROUP
        which = _GOING_OF_GROUP if of_group else _GOING_OF_PERSON
        whom = limit.group_id if of_group else user.pk
        statements.append(rows.required(which, whom, limit.amount))
    return statements


# In the text, or the index of those that are unfinished could not be used: what is prepared is planned once.
_UNFINISHED = ", ".join(f"'{each}'" for each in Deliberation.UNFINISHED)
_GOING = f"""
    SELECT 1 WHERE (
        SELECT count(*) FROM {Deliberation._meta.db_table} AS deliberation
        JOIN {Conversation._meta.db_table} AS conversation ON conversation.id = deliberation.scope
        WHERE deliberation.status IN ({_UNFINISHED}) AND conversation.owner_id {{}}
    ) < %s
"""  # noqa: S608  # own names
_GOING_OF_PERSON = _GOING.format("= %s")
_GOING_OF_GROUP = _GOING.format(f"IN (SELECT user_id FROM {User.groups.through._meta.db_table} WHERE group_id = %s)")  # noqa: S608  # own name


def no_room() -> Refused:
    """What is said where `room` found none."""
    reached = limits.Reached(limits.What.GOING, None)
    return Refused(str(reached), limit=reached)


def checked(question: str) -> str:
    """The question as it is stored. Raises Refused for one that is empty or too long."""
    question = clean(question).strip()
    if not question:
        raise Refused(_("Write a question first."))
    if len(question) > QUESTION_CHARACTERS:
        raise Refused(
            _("The question has %(length)s characters; %(most)s fit. Shorten it, or ask about a part of it.")
            % {"length": f"{len(question):,}", "most": f"{QUESTION_CHARACTERS:,}"}
        )
    return question


def _asked_before(user: User, request_id: UUID) -> Turn | None:
    return (
        Turn.objects.select_related("conversation", "deliberation")
        .filter(conversation__owner=user, request_id=request_id)
        .first()
    )


def _same_question(turn: Turn, question: str) -> Turn:
    if turn.deliberation.question != question or turn.conversation.deleted:
        raise Refused(_("This form has been sent before. Send it once more to ask anew."), conflict=True)
    return turn


def _store(
    user: User,
    question: str,
    council: Council,
    mode: Mode,
    conversation: Conversation | None,
    request_id: UUID,
    by: str,
) -> Turn:
    past = _past(conversation) if conversation else []
    if past and past[-1].deliberation.unfinished:
        raise _UnderWay
    if conversation is None:
        # The request names the conversation, so that a double click makes one.
        key = uuid5(request_id, str(user.pk))
        conversation = Conversation(key, owner=user, title=titles.from_question(question))
        first = rows.insert([conversation])
    else:
        first = rows.update(Conversation._meta.db_table, {"updated": timezone.now()}, "id = %s", conversation.pk)
    deliberation = plans.new_deliberation(
        conversation.id, council, question, [_exchange(turn.deliberation) for turn in past], mode
    )
    turn = Turn(
        conversation=conversation, parent=past[-1] if past else None, deliberation=deliberation, request_id=request_id
    )
    worker = jobs.here()
    told = trail.asked(user.actor, deliberation, council.slug, conversation.pk, by)
    free = room(user)
    turn.pk = _begin(turn, free, first, worker, told) if worker else _queue(turn, free, first, told)
    for stored in (conversation, deliberation, turn):
        stored._state.adding = False
    # What else this request says names the deliberation, as its job and its calls do.
    structlog.contextvars.bind_contextvars(deliberation=str(deliberation.pk))
    logger.info("Question asked", conversation=str(conversation.pk), turn=turn.pk, person=user.pk, council=council.pk)
    return turn


def _queue(turn: Turn, free: list[Statement], first: Statement, told: Statement) -> int:
    """Store the question for whichever worker comes first, and what is `told` of it. Returns the turn's key."""
    with transaction.atomic():
        *_others, written = rows.execute([*free, first, *_inserts(turn)])
        jobs.queue(jobs.Arguments(turn.deliberation_id, turn.conversation_id))
        rows.execute([told])  # last: the audit trail is held until the commit
    return written.rows[0][0]


def _begin(turn: Turn, free: list[Statement], first: Statement, worker: jobs.GivenJobs, told: Statement) -> int:
    """Store the question as one that this process's worker has begun, and what is `told`. Returns the turn's key."""
    arguments = jobs.Arguments(turn.deliberation_id, turn.conversation_id)
    claim = claiming.claim_new(turn.deliberation)
    new = calls.first(claim)
    sending = call_rows.sending(new, claim.id, claim.attempt)
    stored = [*free, first, *_inserts(turn), worker.doing(arguments), *sending, told]
    _, _, written, job, *sent, _ = rows.execute(stored)[len(free) :]
    to_go_out = {call.slot: row for call, row in zip(new, call_rows.sent(new, sent), strict=True) if call.slot}
    worker.give(arguments, replace(claim, sent=to_go_out), job.rows[0][0])
    return written.rows[0][0]


def _inserts(turn: Turn) -> list[Statement]:
    return [rows.insert([turn.deliberation]), rows.insert([turn], "RETURNING id")]


def _past(conversation: Conversation) -> list[Turn]:
    """The latest turns, oldest first."""
    turns = conversation.turns.select_related("deliberation__synthesis").prefetch_related("deliberation__answers")
    return list(turns.order_by("-created", "-id")[:HISTORY_TURNS])[::-1]


def _exchange(deliberation: Deliberation) -> Exchange:
    """What a follow-up carries of an earlier turn: the question and what the council said to it."""
    return Exchange(deliberation.question, council_answer(deliberation) or "(The council gave no answer.)")


def chairman_text(deliberation: Deliberation) -> str:
    """What the chairman wrote, with letters for labels, however that ended; empty where it wrote nothing."""
    synthesis = getattr(deliberation, "synthesis", None)
    text = synthesis.text if synthesis is not None else ""
    return rewrite(text, to_letters(Plan.from_json(deliberation.plan), CHAIRMAN))


# Of a text that grows there is no outcome yet. What a person stopped is what the page shows as the council's answer.
_COUNTS = {"", Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.CANCELLED}


def council_answer(deliberation: Deliberation) -> str:
    """The chairman's text where it counts; else the top-ranked answer, or the first there is."""
    if has_synthesis(deliberation):
        return chairman_text(deliberation)
    places = {each["seat"]: each["place"] for each in deliberation.standings}
    usable = [
        each
        for each in deliberation.answers.all()
        if each.text and each.outcome in {Outcome.COMPLETE, Outcome.TRUNCATED}
    ]
    best = min(usable, key=lambda each: (places.get(each.seat, len(places) + 1), each.seat), default=None)
    return best.text if best else ""


def has_synthesis(deliberation: Deliberation) -> bool:
    """The chairman wrote a text that counts."""
    synthesis = getattr(deliberation, "synthesis", None)
    return synthesis is not None and bool(synthesis.text) and synthesis.outcome in _COUNTS
