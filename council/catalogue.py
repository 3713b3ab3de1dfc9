"""A provider's own list of models: names, context sizes, prices and what they can do.

OpenRouter tells all of it, most others little more than ids. What a list does not tell stays as it is here.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from council.core.errors import CouncilError, NotTheProtocol, ProviderError, UnreadableKey
from council.core.values import CONTROLS, clean
from council.models import LanguageModel, Provider
from council.providers import connecting, telling
from council.providers.chat import Endpoint
from governance import audit
from governance.audit import Kind, Thing

# What servers call the room of a model, OpenRouter's name first.
_CONTEXTS = ("context_length", "max_model_len", "context_window", "max_context_length")
_MOST_TOKENS = 2_000_000_000
_MOST_PRICE = 10**12


class NoCatalogue(CouncilError):
    """The provider's list of models cannot be read."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Names of the models that changed, ids that the provider no longer lists, and how many it lists.

    `changes`: by slug and column, what was and what is.
    """

    updated: tuple[str, ...]
    missing: tuple[str, ...]
    offered: int
    changes: dict[str, dict[str, list[Any]]] = field(default_factory=dict)


def refresh(provider: Provider) -> Refreshed:
    """Bring the provider's models up to date with its own list. Raises NoCatalogue."""
    return take_over(provider, offered(provider))


def offered(provider: Provider) -> dict[str, dict[str, Any]]:
    """What the provider lists, by id. Blocks for `telling.SECONDS` or a little more. Raises NoCatalogue."""
    if provider.kind == Provider.Kind.PRACTICE:
        raise NoCatalogue(f"{provider.name} has no list of models: it is the one that ships with the site.")
    try:
        return {each["id"]: each for each in _models(_fetch(provider))}
    except ProviderError as error:
        raise NoCatalogue(f"The list of models of {provider.name} cannot be read. {error}") from error


@transaction.atomic
def take_over(provider: Provider, offered: dict[str, dict[str, Any]], by: UUID | None = None) -> Refreshed:
    """Write what such a list tells of the models that are here; others are not added.

    Names, too, become what the provider tells. `by`: who has it done, in the audit trail; None is the site.
    """
    updated, missing, changes = [], [], {}
    for model in provider.language_models.all():
        entry = offered.get(model.model_id)
        if entry is None:
            missing.append(model.model_id)
            continue
        told = _told(entry)
        other = [name for name, value in told.items() if getattr(model, name) != value]
        if other:
            LanguageModel.objects.filter(pk=model.pk).update(**{name: told[name] for name in other})
            changes[model.slug] = {name: [getattr(model, name), told[name]] for name in other}
            updated.append(told.get("name", model.name))
    for slug, changed in changes.items():
        thing = Thing("council.languagemodel", slug)
        audit.record(Kind.CHANGED, by, thing, changes=changed, by="the provider's list")
    return Refreshed(tuple(updated), tuple(missing), len(offered), changes)


def endpoint_of(provider: Provider) -> Endpoint:
    """Where it tells of itself. Raises ImproperlyConfigured for a key that cannot be read."""
    return Endpoint(provider.base_url, provider.api_key, provider.kind, model_id="", private=provider.private_address)


def _fetch(provider: Provider) -> Any:
    """The list as it came. Raises a ProviderError."""
    try:
        endpoint = endpoint_of(provider)
    except ImproperlyConfigured as error:
        raise UnreadableKey from error
    return async_to_sync(_get)(endpoint)


async def _get(endpoint: Endpoint) -> Any:
    async with connecting.new_transport() as transport:
        return await telling.get(transport, endpoint, "models")


def _models(body: Any) -> list[dict[str, Any]]:
    """The entries of a list, which some servers send bare. Raises NotTheProtocol."""
    entries = body.get("data") if isinstance(body, dict) else body
    if not isinstance(entries, list):
        raise NotTheProtocol
    return [each for each in entries if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of a LanguageModel that an entry tells; what is missing or makes no sense is left out."""
    pricing, top, architecture = (_object(entry, name) for name in ("pricing", "top_provider", "architecture"))
    told: dict[str, Any] = {
        "name": _name(entry.get("name")),
        "context": next((size for name in _CONTEXTS if (size := _tokens(entry.get(name), 512))), None),
        "max_output": _tokens(top.get("max_completion_tokens"), 16),
        "input_price": _price(pricing.get("prompt")),
        "output_price": _price(pricing.get("completion")),
    }
    parameters = entry.get("supported_parameters")
    if isinstance(parameters, list) and parameters:
        told["temperature"] = "temperature" in parameters
        told["json_schema"] = "structured_outputs" in parameters or "response_format" in parameters
        fields = [each for each in ("max_tokens", "max_completion_tokens") if each in parameters]
        if len(fields) == 1:
            told["max_tokens_field"] = fields[0]
        if "reasoning" not in parameters and "reasoning_effort" not in parameters:
            told["effort"] = LanguageModel.Effort.DEFAULT.value
    modalities = architecture.get("input_modalities")
    if isinstance(modalities, list):
        told["images"] = "image" in modalities
    return {name: value for name, value in told.items() if value is not None}


def _object(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    """The name without its maker: "GPT-5.1" of "OpenAI: GPT-5.1"."""
    if not isinstance(value, str):
        return None
    words = " ".join(CONTROLS.sub("", clean(value)).split())
    return (words.partition(": ")[2] or words)[:100] or None


def _tokens(value: object, least: int) -> int | None:
    return value if isinstance(value, int) and least <= value < _MOST_TOKENS else None


def _price(value: object) -> int | None:
    """Micro-dollars a million tokens, of dollars a token; None for what is no price (OpenRouter's router says -1)."""
    if not isinstance(value, str | int | float):
        return None
    try:
        price = Decimal(str(value)) * 10**12
        return int(price.to_integral_value()) if 0 <= price < _MOST_PRICE else None
    except ArithmeticError:
        return None
