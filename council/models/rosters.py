"""The rosters: providers, models, councils and seats, all edited in the admin."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from council.models.names import plain
from governance.fields import EncryptedTextField

_BY_KIND = _("as its kind of provider has it")


def _may_be_open(words: Any, help_text: Any) -> Any:
    """A yes or no that may be left to the kind of provider: `council.capabilities`."""
    choices = ((None, _BY_KIND), (True, _("yes")), (False, _("no")))
    return models.BooleanField(words, null=True, blank=True, default=None, choices=choices, help_text=help_text)


class Provider(models.Model):
    """A host that serves models over the OpenAI-compatible protocol."""

    class Kind(models.TextChoices):
        OPENROUTER = "openrouter", _("OpenRouter")
        OPENAI = "openai", _("OpenAI")
        COMPATIBLE = "compatible", _("OpenAI-compatible (vLLM, Ollama, llama.cpp, …)")
        PRACTICE = "practice", _("Practice (the small model that ships with the site)")

    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    name = models.CharField(max_length=100, validators=[plain], help_text=_("As people see it, such as OpenRouter."))
    kind = models.CharField(
        max_length=20, choices=Kind, default=Kind.COMPATIBLE, help_text=_("Decides how requests are phrased.")
    )
    base_url = models.URLField(
        _("base address"),
        blank=True,
        help_text=_("Up to and with the version, such as https://openrouter.ai/api/v1 or http://localhost:11434/v1."),
    )
    api_key = EncryptedTextField(_("API key"), blank=True)
    api_key_env = models.CharField(
        max_length=100,
        blank=True,
        editable=False,
        validators=[RegexValidator(r"\A[A-Za-z_][A-Za-z0-9_]*\Z", _("Enter the name of an environment variable."))],
        help_text=_("The environment variable that a roster's file takes the key from."),
    )
    private_address = models.BooleanField(
        _("is in a private network"),
        default=False,
        db_default=False,
        help_text=_(
            "Tick it for a server on this machine or in your own network. Otherwise nothing is sent to an address that"
            " only such networks have."
        ),
    )
    enabled = models.BooleanField(default=True, help_text=_("Off: no model of this provider is asked anything."))
    concurrency = models.PositiveIntegerField(
        _("calls at a time"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text=_(
            "How many calls this provider is sent at the same time, by all workers together; further ones wait for "
            "their turn. Empty: as many as come. A server of your own often answers few at a time."
        ),
    )

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class LanguageModel(models.Model):
    """A model as one provider offers it: a row of the catalogue."""

    class MaxTokensField(models.TextChoices):
        BY_KIND = "", _BY_KIND
        MAX_TOKENS = "max_tokens", "max_tokens"
        MAX_COMPLETION_TOKENS = "max_completion_tokens", "max_completion_tokens"

    class Approval(models.TextChoices):
        PROPOSED = "proposed", _("proposed")
        APPROVED = "approved", _("approved")
        RETIRED = "retired", _("retired")

    class Effort(models.TextChoices):
        DEFAULT = "", _("as the provider decides")
        LOW = "low", _("low")
        MEDIUM = "medium", _("medium")
        HIGH = "high", _("high")

    provider = models.ForeignKey(
        Provider, on_delete=models.PROTECT, related_name="language_models", help_text=_("Who is asked for it.")
    )
    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    model_id = models.CharField(
        _("model id"),
        max_length=200,
        validators=[plain],
        help_text=_("As the provider spells it, such as openai/gpt-5.1."),
    )
    name = models.CharField(max_length=100, validators=[plain], help_text=_("As people see it, such as GPT-5.1."))
    enabled = models.BooleanField(default=True, help_text=_("Off: no seat of this model is asked anything."))
    approval = models.CharField(
        max_length=10,
        choices=Approval,
        default=Approval.PROPOSED,
        db_default=Approval.PROPOSED,
        help_text=_("Only an approved model is asked anything, whatever councils it sits in."),
    )
    decided = models.DateTimeField(null=True, editable=False, help_text=_("When its approval was last decided,"))
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text=_("and by whom; nobody: a file, or the site itself."),
    )
    approval_note = models.CharField(
        _("note"),
        max_length=300,
        blank=True,
        default="",
        db_default="",
        help_text=_("Why, and for what it may be used."),
    )

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

    temperature = _may_be_open(_("takes a temperature"), _("Some models refuse one."))
    json_schema = _may_be_open(
        _("takes a JSON schema"),
        _("Ballots are asked for by schema. A provider that refuses it is asked again without."),
    )
    usage_in_stream = _may_be_open(_("reports usage in a stream"), _("Sends stream_options.include_usage."))
    images = _may_be_open(_("reads images"), _("Noted for whoever chooses models; questions are text alone."))
    max_tokens_field = models.CharField(
        _("name of the output cap"),
        max_length=30,
        choices=MaxTokensField,
        blank=True,
        default=MaxTokensField.BY_KIND,
        help_text=_("OpenAI's models want max_completion_tokens, most others know max_tokens alone."),
    )
    effort = models.CharField(
        _("reasoning effort"),
        max_length=10,
        choices=Effort,
        blank=True,
        default=Effort.DEFAULT,
        help_text=_("How long a reasoning model may think: more costs time and money. Others may refuse to be told."),
    )
    first_token_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How long to wait for the first sign of life. Reasoning models need long."),
    )
    between_tokens_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How long a stream may pause before the call is given up."),
    )
    call_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How long one call may take in all."),
    )
    tokens_per_byte = models.FloatField(
        default=0.4,
        editable=False,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
        help_text=_("Learnt from the usage that comes back; an estimate from above."),
    )

    class Meta:
        ordering = ("provider__name", "name")
        constraints = [models.UniqueConstraint(fields=("provider", "model_id"), name="model_once_a_provider")]
        permissions = (("approve_languagemodel", _("Can approve models, and retire them")),)

    def __str__(self) -> str:
        return f"{self.name} ({self.provider.name})"

    @property
    def usable(self) -> bool:
        """Approved and enabled, and so is its provider."""
        return self.approval == self.Approval.APPROVED and self.enabled and self.provider.enabled

    def decide(self, approval: str, by: Any = None, note: str | None = None) -> None:
        """Approve it, retire it, or propose it anew; unsaved. `by`: the person; None: a file, or the site itself."""
        self.approval, self.decided, self.decided_by = approval, timezone.now(), by
        if note is not None:
            self.approval_note = note


class CouncilQuerySet(models.QuerySet["Council"]):
    """The one door to councils for whoever asks."""

    def usable_by(self, user: AbstractBaseUser | AnonymousUser) -> "CouncilQuerySet":
        """Enabled councils that are open to everyone, or to a group of this person."""
        return self.filter(Q(enabled=True) & (Q(groups=None) | Q(groups__user=user.pk))).distinct()


class Council(models.Model):
    """A named line-up: members who answer and review, and a chairman who writes the council's answer."""

    slug = models.SlugField(unique=True, help_text=_("A short name for files and commands. Do not change it later."))
    name = models.CharField(
        max_length=100, validators=[plain], help_text=_("As people see it where they choose a council.")
    )
    description = models.CharField(
        max_length=200, blank=True, validators=[plain], help_text=_("One line for whoever chooses a council.")
    )
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
    quorum = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_(
            "How many answers are enough: with 3 of 5, the council goes on without the two slowest, once they have had"
            " the time below. As many reviews are enough. Empty: it waits for all."
        ),
    )
    grace_seconds = models.PositiveIntegerField(
        default=30,
        db_default=30,
        help_text=_(
            "Once enough have answered, the others have this many seconds left. What they have written by then counts,"
            " marked as cut off."
        ),
    )
    stage_seconds = models.PositiveIntegerField(
        default=900,
        db_default=900,
        validators=[MinValueValidator(1)],
        help_text=_(
            "The longest that answering, reviewing or writing the council's answer may take, each for itself, in"
            " seconds. Then it goes on with what there is."
        ),
    )

    objects = CouncilQuerySet.as_manager()

    read_seats: "list[Seat] | None" = None
    """Its seats in order with their models, where they were read together with it."""

    read_fallbacks: "list[Fallback] | None" = None
    """Its fallback models in order, where they were read together with it."""

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
    role = models.CharField(
        max_length=10,
        choices=Role,
        default=Role.MEMBER,
        help_text=_("Members answer and review; the chairman writes the council's answer."),
    )
    position = models.PositiveSmallIntegerField(default=0, help_text=_("Members sit in this order: A, B, C, …"))
    language_model = models.ForeignKey(
        LanguageModel,
        on_delete=models.PROTECT,
        related_name="seats",
        help_text=_("An approved one. The same model may sit on several seats."),
    )
    name = models.CharField(
        max_length=60, blank=True, validators=[plain], help_text=_("Shown instead of the model's name.")
    )
    system_prompt = models.TextField(blank=True, max_length=8000, help_text=_("Said to the model before the question."))
    temperature = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
        help_text=_("From 0, which hardly varies, to 2. Empty: the provider decides."),
    )

    class Meta:
        ordering = ("position", "pk")
        constraints = [
            models.UniqueConstraint(fields=("council",), condition=Q(role="chairman"), name="one_chairman_a_council")
        ]

    def __str__(self) -> str:
        return self.name or self.language_model.name


class Fallback(models.Model):
    """A model that is asked in place of a seat whose own model failed: any member's, or the chairman's."""

    council = models.ForeignKey(Council, on_delete=models.CASCADE, related_name="fallbacks")
    role = models.CharField(
        _("in place of"),
        max_length=10,
        choices=[(Seat.Role.MEMBER, _("a member")), (Seat.Role.CHAIRMAN, _("the chairman"))],
        default=Seat.Role.MEMBER,
        help_text=_("Whose place it takes, once that one's own model has failed."),
    )
    position = models.PositiveSmallIntegerField(default=0, help_text=_("They are tried in this order."))
    language_model = models.ForeignKey(
        LanguageModel, on_delete=models.PROTECT, related_name="fallbacks", help_text=_("An approved one.")
    )

    class Meta:
        verbose_name = _("fallback model")
        verbose_name_plural = _("fallback models")
        ordering = ("position", "pk")
        constraints = [
            models.UniqueConstraint(fields=("council", "role", "language_model"), name="one_fallback_a_model")
        ]

    def __str__(self) -> str:
        return str(self.language_model)
