"""The rosters (providers, models, councils, seats) and what a deliberation leaves behind.

Rosters are edited in the admin. A deliberation carries its own question, history and plan, a snapshot of the roster
as it was: it never points up to a conversation, and no later change of a roster changes it. Its rows are written by
`council.record` alone.
"""

import uuid
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from council.core.values import Outcome
from governance.fields import EncryptedTextField


class Provider(models.Model):
    """A host that serves models over the OpenAI-compatible protocol."""

    class Kind(models.TextChoices):
        OPENROUTER = "openrouter", _("OpenRouter")
        OPENAI = "openai", _("OpenAI")
        COMPATIBLE = "compatible", _("OpenAI-compatible (vLLM, Ollama, llama.cpp, …)")
        PRACTICE = "practice", _("Practice (the small model that ships with the site)")

    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    name = models.CharField(max_length=100)
    kind = models.CharField(
        max_length=20, choices=Kind, default=Kind.COMPATIBLE, help_text=_("Decides how requests are phrased.")
    )
    base_url = models.URLField(
        _("base address"),
        blank=True,
        help_text=_("Up to and with the version, such as https://openrouter.ai/api/v1 or http://localhost:11434/v1."),
    )
    api_key = EncryptedTextField(_("API key"), blank=True)
    enabled = models.BooleanField(default=True, help_text=_("Off: no model of this provider is asked anything."))

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class LanguageModel(models.Model):
    """A model as one provider offers it: a row of the catalogue."""

    class MaxTokensField(models.TextChoices):
        MAX_TOKENS = "max_tokens", "max_tokens"
        MAX_COMPLETION_TOKENS = "max_completion_tokens", "max_completion_tokens"

    class Effort(models.TextChoices):
        DEFAULT = "", _("as the provider decides")
        LOW = "low", _("low")
        MEDIUM = "medium", _("medium")
        HIGH = "high", _("high")

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="language_models")
    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    model_id = models.CharField(
        _("model id"), max_length=200, help_text=_("As the provider spells it, such as openai/gpt-5.1.")
    )
    name = models.CharField(max_length=100, help_text=_("As people see it, such as GPT-5.1."))
    enabled = models.BooleanField(default=True, help_text=_("Off: no seat of this model is asked anything."))

    input_price = models.PositiveBigIntegerField(
        null=True, blank=True, help_text=_("Micro-dollars a million input tokens: $1.25 is 1250000. Empty: unknown.")
    )
    output_price = models.PositiveBigIntegerField(
        null=True, blank=True, help_text=_("Micro-dollars a million output tokens, reasoning included. Empty: unknown.")
    )
    context = models.PositiveIntegerField(
        default=32_768,
        validators=[MinValueValidator(512)],
        help_text=_("Tokens that fit in one request, question and answer together."),
    )
    max_output = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(16)],
        help_text=_("The most tokens the model may write in one answer. Empty: the council's caps alone decide."),
    )

    temperature = models.BooleanField(_("takes a temperature"), default=True, help_text=_("Some models refuse one."))
    json_schema = models.BooleanField(
        _("takes a JSON schema"),
        default=True,
        help_text=_("Ballots are asked for by schema. A provider that refuses it is asked again without."),
    )
    usage_in_stream = models.BooleanField(
        _("reports usage in a stream"), default=True, help_text=_("Sends stream_options.include_usage.")
    )
    images = models.BooleanField(_("reads images"), default=False)
    max_tokens_field = models.CharField(
        _("name of the output cap"),
        max_length=30,
        choices=MaxTokensField,
        default=MaxTokensField.MAX_TOKENS,
        help_text=_("Newer OpenAI models want max_completion_tokens."),
    )
    effort = models.CharField(_("reasoning effort"), max_length=10, choices=Effort, blank=True, default=Effort.DEFAULT)
    first_token_seconds = models.PositiveIntegerField(
        default=120, help_text=_("How long to wait for the first sign of life. Reasoning models need long.")
    )
    between_tokens_seconds = models.PositiveIntegerField(
        default=60, help_text=_("How long a stream may pause before the call is given up.")
    )
    call_seconds = models.PositiveIntegerField(default=600, help_text=_("How long one call may take in all."))
    tokens_per_byte = models.FloatField(
        default=0.4,
        editable=False,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
        help_text=_("Learnt from the usage that comes back; an estimate from above."),
    )

    class Meta:
        ordering = ("provider__name", "name")
        constraints = [models.UniqueConstraint(fields=("provider", "model_id"), name="model_once_a_provider")]

    def __str__(self) -> str:
        return f"{self.name} ({self.provider.name})"

    @property
    def usable(self) -> bool:
        """Enabled, and so is its provider."""
        return self.enabled and self.provider.enabled


class CouncilQuerySet(models.QuerySet["Council"]):
    """The one door to councils for whoever asks."""

    def usable_by(self, user: AbstractBaseUser | AnonymousUser) -> "CouncilQuerySet":
        """Enabled councils that are open to everyone, or to a group of this person."""
        return self.filter(Q(enabled=True) & (Q(groups=None) | Q(groups__user=user.pk))).distinct()


class Council(models.Model):
    """A named line-up: members who answer and review, and a chairman who writes the council's answer."""

    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=200, blank=True, help_text=_("One line for whoever chooses a council."))
    enabled = models.BooleanField(default=True, help_text=_("Off: it is not offered."))
    default = models.BooleanField(default=False, help_text=_("Chosen unless a person chooses another."))
    groups = models.ManyToManyField(
        Group, blank=True, related_name="councils", help_text=_("Who may use it. None chosen: everyone.")
    )
    answer_tokens = models.PositiveIntegerField(
        default=4000,
        validators=[MinValueValidator(16)],
        help_text=_("The most tokens of an answer, thinking included."),
    )
    review_tokens = models.PositiveIntegerField(
        default=1500, validators=[MinValueValidator(16)], help_text=_("The most tokens of a review.")
    )
    synthesis_tokens = models.PositiveIntegerField(
        default=4000, validators=[MinValueValidator(16)], help_text=_("The most tokens of the council's answer.")
    )

    objects = CouncilQuerySet.as_manager()

    read_seats: "list[Seat] | None" = None
    """Its seats in order with their models, where they were read together with it."""

    class Meta:
        ordering = ("-default", "name")
        constraints = [
            models.UniqueConstraint(fields=("default",), condition=Q(default=True), name="one_default_council")
        ]

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    """One model's place in a council: a member's, or the chairman's."""

    class Role(models.TextChoices):
        MEMBER = "member", _("member")
        CHAIRMAN = "chairman", _("chairman")

    council = models.ForeignKey(Council, on_delete=models.CASCADE, related_name="seats")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    position = models.PositiveSmallIntegerField(default=0, help_text=_("Members sit in this order: A, B, C, …"))
    language_model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="seats")
    name = models.CharField(max_length=60, blank=True, help_text=_("Shown instead of the model's name."))
    system_prompt = models.TextField(blank=True, max_length=8000, help_text=_("Said to the model before the question."))
    temperature = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)])

    class Meta:
        ordering = ("position", "pk")
        constraints = [
            models.UniqueConstraint(fields=("council",), condition=Q(role="chairman"), name="one_chairman_a_council")
        ]

    def __str__(self) -> str:
        return self.name or self.language_model.name


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
    cancel_requested = models.BooleanField(default=False)
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
    def elapsed(self) -> timedelta | None:
        """From the question to the end; None while it goes on."""
        return self.finished - self.created if self.finished else None


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

    class Meta:
        ordering = ("seat",)
        constraints = [models.UniqueConstraint(fields=("deliberation", "seat"), name="one_review_a_seat")]


class Synthesis(Contribution):
    """The council's answer, written by the chairman."""

    deliberation = models.OneToOneField(Deliberation, on_delete=models.CASCADE, related_name="synthesis")

    class Meta:
        verbose_name_plural = "syntheses"


class Call(models.Model):
    """One attempt at one request to a provider, written before it is sent."""

    class Purpose(models.TextChoices):
        ANSWER = "answer", _("answer")
        REVIEW = "review", _("review")
        SYNTHESIS = "synthesis", _("synthesis")
        TITLE = "title", _("title")
        TEST = "test", _("test call")

    class State(models.TextChoices):
        SENT = "sent", _("sent")
        ENDED = "ended", _("ended")

    deliberation = models.ForeignKey(Deliberation, null=True, on_delete=models.CASCADE, related_name="calls")
    purpose = models.CharField(max_length=10, choices=Purpose)
    seat = models.PositiveSmallIntegerField(null=True)
    fence = models.PositiveIntegerField(default=0)
    language_model = models.ForeignKey(LanguageModel, null=True, on_delete=models.SET_NULL, related_name="calls")
    model_name = models.CharField(max_length=200)
    provider_name = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=State, default=State.SENT)
    outcome = models.CharField(max_length=10, choices=[(each.value, each.value) for each in Outcome], blank=True)
    error = models.TextField(blank=True)
    generation = models.CharField(max_length=200, blank=True, help_text=_("The provider's own id of the answer."))
    sent = models.DateTimeField()
    first_token = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)
    input_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    cost = models.PositiveBigIntegerField(null=True, help_text=_("Micro-dollars."))
    estimated = models.BooleanField(default=False)

    class Meta:
        ordering = ("sent", "pk")
        indexes = [models.Index(fields=("sent", "id"), name="call_sent")]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} by {self.model_name}"
