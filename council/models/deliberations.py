"""What a deliberation leaves behind.

It carries its own question, history and plan, a snapshot of the roster as it was: it never points up to a conversation,
and no later change of a roster changes it. Its rows are written by `council.record` and `council.claiming`
alone.
"""

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from council.core.values import Outcome
from council.models.rosters import Council, LanguageModel


class Deliberation(models.Model):
    """One execution of a council on one question, from a stored plan.

    `attempt` is the fence: every write of its worker carries it, and a worker that was replaced writes nothing.
    `revision` grows with every write that a viewer can see; each row below holds the revision it last changed at.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        COMPLETE = "complete", _("complete")
        PARTIAL = "partial", _("partial")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("stopped")

    class Stage(models.TextChoices):
        NONE = "", _("not begun")
        ANSWERING = "answering", _("answering")
        REVIEWING = "reviewing", _("reviewing")
        SYNTHESISING = "synthesising", _("synthesising")

    class Mode(models.TextChoices):
        FULL = "full", _("Full")
        ANSWERS = "answers", _("Answers only")

    UNFINISHED = (Status.QUEUED, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.UUIDField(help_text=_("Opaque, from whoever asked: of one scope at most one is unfinished."))
    council = models.ForeignKey(Council, null=True, on_delete=models.SET_NULL, related_name="deliberations")
    council_name = models.CharField(max_length=100)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.FULL)
    practice = models.BooleanField(default=False)
    plan = models.JSONField()
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    stage = models.CharField(max_length=15, choices=Stage, default=Stage.NONE, blank=True)
    reason = models.TextField(blank=True)
    standings = models.JSONField(default=list)
    attempt = models.PositiveIntegerField(default=0)
    revision = models.PositiveIntegerField(default=0)
    layout = models.PositiveIntegerField(default=0, help_text=_("The revision at which stage or status last changed."))
    handed_over = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text=_("How often a worker that was told to go has passed it on.")
    )
    cancel_requested = models.BooleanField(default=False)
    retry = models.JSONField(
        null=True, help_text=_("Where a slot was tried again: which one at last, and how things stood before that.")
    )
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True)
    finished = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created",)
        constraints = [
            models.UniqueConstraint(
                fields=("scope",), condition=Q(status__in=("queued", "running")), name="one_unfinished_deliberation"
            )
        ]
        indexes = [models.Index(fields=("-created",), name="deliberation_newest")]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def unfinished(self) -> bool:
        """Waiting for a worker, or with one."""
        return self.status in self.UNFINISHED

    @property
    def question(self) -> str:
        """The question as it was asked."""
        question: str = self.plan["question"]
        return question

    @property
    def retried(self) -> bool:
        """A slot of it was tried again, or is just being."""
        return self.retry is not None

    @property
    def began(self) -> datetime:
        """When it was asked; later by as long as it had ended before a slot was tried again."""
        return self.created + timedelta(seconds=self.retry["idle"] if self.retry else 0)

    @property
    def elapsed(self) -> timedelta | None:
        """From the question to the end, without the time in which nothing went on; None while it does."""
        return self.finished - self.began if self.finished else None


class Contribution(models.Model):
    """What one slot of the plan produced: the common part of an answer, a review and a synthesis."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        THINKING = "thinking", _("thinking")
        WRITING = "writing", _("writing")
        ENDED = "ended", _("ended")

    revision = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    outcome = models.CharField(max_length=10, choices=[(each.value, each.value) for each in Outcome], blank=True)
    error = models.TextField(blank=True)
    text = models.TextField(blank=True)
    started = models.DateTimeField(null=True)
    first_token = models.DateTimeField(null=True)
    finished = models.DateTimeField(null=True)
    tokens = models.PositiveIntegerField(default=0, help_text=_("Pieces of text that came, thinking included."))
    input_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    cost = models.PositiveBigIntegerField(null=True, help_text=_("Micro-dollars."))
    estimated = models.BooleanField(default=False, help_text=_("The provider told no usage; tokens are estimated."))
    stand_in = models.PositiveSmallIntegerField(
        null=True, help_text=_("Which of the plan's fallback models was asked in place of the seat's own, from 0.")
    )
    earlier = models.JSONField(
        null=True,
        help_text=_(
            "While it is tried again, or a fallback model is asked once its own broke off: what it had, which stays"
            " unless something better comes."
        ),
    )

    class Meta:
        abstract = True

    @property
    def seconds(self) -> float | None:
        """How long it took; None before its end."""
        return (self.finished - self.started).total_seconds() if self.finished and self.started else None


class Answer(Contribution):
    """A member's answer."""

    deliberation = models.ForeignKey(Deliberation, on_delete=models.CASCADE, related_name="answers")
    seat = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ("seat",)
        constraints = [models.UniqueConstraint(fields=("deliberation", "seat"), name="one_answer_a_seat")]


class Review(Contribution):
    """A member's review of all answers, and the ballot that was read from it."""

    class BallotState(models.TextChoices):
        NONE = "", _("not yet")
        VALID = "valid", _("valid")
        REPAIRED = "repaired", _("repaired")
        ABSTAINED = "abstained", _("abstained")
        INVALID = "invalid", _("invalid")

    deliberation = models.ForeignKey(Deliberation, on_delete=models.CASCADE, related_name="reviews")
    seat = models.PositiveSmallIntegerField()
    ballot_state = models.CharField(max_length=10, choices=BallotState, blank=True)
    ballot = models.JSONField(default=list, help_text=_("Groups of seats, best first; a group is a tie."))
    ballot_reason = models.TextField(blank=True)
    saw = models.JSONField(null=True, help_text=_("The seats whose answers it was written about; none for one of old."))

    class Meta:
        ordering = ("seat",)
        constraints = [models.UniqueConstraint(fields=("deliberation", "seat"), name="one_review_a_seat")]


class Synthesis(Contribution):
    """The council's answer, written by the chairman."""

    deliberation = models.OneToOneField(Deliberation, on_delete=models.CASCADE, related_name="synthesis")
    saw = models.JSONField(null=True, help_text=_("The seats whose answers it was written from; none for one of old."))

    class Meta:
        verbose_name_plural = "syntheses"


class Call(models.Model):
    """One attempt at one request to a provider, written before it is sent. Without `sent` it never went out."""

    class Purpose(models.TextChoices):
        ANSWER = "answer", _("answer")
        REVIEW = "review", _("review")
        SYNTHESIS = "synthesis", _("synthesis")
        TITLE = "title", _("title")
        TEST = "test", _("test call")

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        SENT = "sent", _("sent")
        ENDED = "ended", _("ended")

    deliberation = models.ForeignKey(Deliberation, null=True, on_delete=models.CASCADE, related_name="calls")
    purpose = models.CharField(max_length=10, choices=Purpose)
    seat = models.PositiveSmallIntegerField(null=True)
    fence = models.PositiveIntegerField(default=0)
    # Indexed together with the time, below.
    language_model = models.ForeignKey(
        LanguageModel, null=True, on_delete=models.SET_NULL, related_name="calls", db_index=False
    )
    model_name = models.CharField(max_length=200)
    model_id = models.CharField(
        max_length=200, blank=True, db_default="", help_text=_("The provider's own id of the model that was asked.")
    )
    provider_name = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=State, default=State.SENT)
    outcome = models.CharField(max_length=10, choices=[(each.value, each.value) for each in Outcome], blank=True)
    error = models.TextField(blank=True)
    generation = models.CharField(max_length=200, blank=True, help_text=_("The provider's own id of the answer."))
    # The database knows it too: workers of the release before write rows without it.
    queued = models.DateTimeField(default=timezone.now, db_default=Now())
    sent = models.DateTimeField(null=True)
    first_token = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)
    input_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    cost = models.PositiveBigIntegerField(null=True, help_text=_("Micro-dollars."))
    estimated = models.BooleanField(default=False)
    unknown = models.BooleanField(
        default=False,
        db_default=False,
        help_text=_("It went out and nobody knows what came of it: it may have been carried out, and billed."),
    )
    fault = models.BooleanField(
        null=True, help_text=_("Whether it tells against the model; empty where it says nothing of how the model does.")
    )

    class Meta:
        ordering = ("queued", "pk")
        indexes = [
            models.Index(fields=("queued", "id"), name="call_queued"),
            models.Index(fields=("language_model", "queued"), name="call_of_model"),
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} by {self.model_name}"
