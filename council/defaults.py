"""The councils that an installation has from its first start on.

With OPENROUTER_API_KEY four frontier models and a chairman; and the practice council, which needs no key and no
network. What is there already is left as an administrator made it.
"""

import logging

from django.conf import settings
from django.db import transaction

from council import catalogue
from council.models import Council, LanguageModel, Provider, Seat
from governance import audit
from governance.audit import Kind, Thing

logger = logging.getLogger(__name__)

OPENROUTER = "https://openrouter.ai/api/v1"

# slug, id, name, micro-dollars a million tokens in and out, context: refreshed from the provider when it is reached.
FRONTIER = (
    ("gpt-5-1", "openai/gpt-5.1", "GPT-5.1", 1_250_000, 10_000_000, 400_000),
    ("gemini-3-pro", "google/gemini-3-pro-preview", "Gemini 3 Pro", 2_000_000, 12_000_000, 1_048_576),
    ("claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", "Claude Sonnet 4.5", 3_000_000, 15_000_000, 1_000_000),
    ("grok-4", "x-ai/grok-4", "Grok 4", 3_000_000, 15_000_000, 256_000),
)
FRONTIER_CHAIRMAN = "gemini-3-pro"

PRACTICE_MODEL = "smollm2-135m"
# name, system prompt, temperature.
PRACTICE_MEMBERS = (
    ("Plain", "You answer briefly and plainly, in a few sentences.", 0.3),
    ("Careful", "You answer step by step and say what you are not sure of. You stay short.", 0.6),
    ("Lively", "You answer with one concrete example. You stay short.", 0.9),
)
PRACTICE_CHAIRMAN = ("Chairman", "You write short, clear answers.", 0.3)


def ensure_council(*, practice: bool) -> None:
    """Make the councils that are missing. Without `practice` the practice council is left out, or switched off."""
    with transaction.atomic():
        fresh = bool(settings.OPENROUTER_API_KEY) and _is_new("openrouter", "frontier", *(each[0] for each in FRONTIER))
        if fresh:
            _frontier()
        if not practice:
            Council.objects.filter(slug="practice").update(enabled=False, default=False)
        elif _is_new("practice", "practice", PRACTICE_MODEL):
            _practice()
        _choose_default(fresh=fresh)
    if fresh:
        _refresh()


def _is_new(provider: str, council: str, *models: str) -> bool:
    """None of it is there, under these slugs: what an administrator has called so stays what it is."""
    return not (
        Provider.objects.filter(slug=provider).exists()
        or Council.objects.filter(slug=council).exists()
        or LanguageModel.objects.filter(slug__in=models).exists()
    )


def _tell(council: Council) -> None:
    """The site itself has made it, and approved its models."""
    models = sorted({seat.language_model.slug for seat in council.seats.select_related("language_model")})
    audit.record(Kind.ADDED, None, Thing("council.council", council.slug), approved=models, by="the site")


def _frontier() -> None:
    provider = Provider.objects.create(
        slug="openrouter",
        name="OpenRouter",
        kind=Provider.Kind.OPENROUTER,
        base_url=OPENROUTER,
        api_key=settings.OPENROUTER_API_KEY,
        api_key_env="OPENROUTER_API_KEY",
    )
    models = {
        slug: LanguageModel.objects.create(
            provider=provider,
            slug=slug,
            model_id=model_id,
            name=name,
            input_price=read,
            output_price=written,
            context=context,
            approval=LanguageModel.Approval.APPROVED,
        )
        for slug, model_id, name, read, written, context in FRONTIER
    }
    council = Council.objects.create(
        slug="frontier", name="Frontier council", description="Four frontier models, from four makers."
    )
    for position, model in enumerate(models.values()):
        Seat.objects.create(council=council, position=position, language_model=model)
    Seat.objects.create(
        council=council, role=Seat.Role.CHAIRMAN, position=len(models), language_model=models[FRONTIER_CHAIRMAN]
    )
    _tell(council)


def _practice() -> None:
    provider = Provider.objects.create(slug="practice", name="Practice", kind=Provider.Kind.PRACTICE)
    model = LanguageModel.objects.create(
        provider=provider,
        slug=PRACTICE_MODEL,
        model_id="smollm2-135m-instruct",
        name="SmolLM2 135M",
        input_price=0,
        output_price=0,
        context=4096,
        approval=LanguageModel.Approval.APPROVED,
    )
    council = Council.objects.create(
        slug="practice",
        name="Practice council",
        description="A very small model on this machine. It is often wrong; it shows how a council works.",
        # It rambles: with a third of these one deliberation in four ended in the middle of its answer.
        answer_tokens=400,
        review_tokens=300,
        synthesis_tokens=1000,
    )
    for position, (name, prompt, temperature) in enumerate(PRACTICE_MEMBERS):
        Seat.objects.create(
            council=council,
            position=position,
            language_model=model,
            name=name,
            system_prompt=prompt,
            temperature=temperature,
        )
    name, prompt, temperature = PRACTICE_CHAIRMAN
    Seat.objects.create(
        council=council,
        role=Seat.Role.CHAIRMAN,
        position=len(PRACTICE_MEMBERS),
        language_model=model,
        name=name,
        system_prompt=prompt,
        temperature=temperature,
    )
    _tell(council)


def _choose_default(*, fresh: bool) -> None:
    """The frontier council where it is `fresh`, before the practice council; else what an administrator chose stays."""
    chosen = Council.objects.filter(default=True).first()
    if chosen is None or (fresh and chosen.slug == "practice"):
        enabled = Council.objects.filter(enabled=True)
        better = enabled.filter(slug="frontier").first() or enabled.order_by("pk").first()
        if better is not None:
            Council.objects.filter(default=True).update(default=False)
            Council.objects.filter(pk=better.pk).update(default=True)


def _refresh() -> None:
    """Names, context and prices as the provider tells them; the figures above stay where it cannot be reached."""
    try:
        refreshed = catalogue.refresh(Provider.objects.get(slug="openrouter"))
    except catalogue.NoCatalogue as error:
        logger.warning("%s Names and prices of the frontier models are those of this release.", str(error))
    else:
        if refreshed.missing:
            logger.warning(
                "OpenRouter no longer lists %s: calls to them will fail. Choose others in the admin, under Councils.",
                ", ".join(refreshed.missing),
            )
