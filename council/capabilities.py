"""What a model takes and how long it may take: its own settings, and for those left open its kind of provider's."""

from typing import NamedTuple

from council.models import LanguageModel, Provider


class Capabilities(NamedTuple):
    """Each as the LanguageModel's field of this name tells, with nothing left open."""

    temperature: bool
    json_schema: bool
    usage_in_stream: bool
    images: bool
    max_tokens_field: str
    first_token_seconds: int
    between_tokens_seconds: int
    call_seconds: int


_USUAL = Capabilities(
    temperature=True,
    json_schema=True,
    usage_in_stream=True,
    images=False,
    max_tokens_field="max_tokens",
    first_token_seconds=120,
    between_tokens_seconds=60,
    call_seconds=600,
)
OF_KIND = {
    Provider.Kind.OPENROUTER: _USUAL,
    # Its reasoning models reject a call with a temperature or with max_tokens; the others do without.
    Provider.Kind.OPENAI: _USUAL._replace(temperature=False, images=True, max_tokens_field="max_completion_tokens"),
    # A server of one's own may load the model first.
    Provider.Kind.COMPATIBLE: _USUAL._replace(first_token_seconds=300),
    Provider.Kind.PRACTICE: _USUAL,
}
"""What holds where a model's own setting is left open."""


def of(model: LanguageModel) -> Capabilities:
    """What holds for the model; its provider is read."""
    own = {name: value for name in Capabilities._fields if (value := getattr(model, name)) not in {None, ""}}
    if chosen := own.get("max_tokens_field"):
        own["max_tokens_field"] = str(chosen)  # a fresh row has an enum there, which is no key of JSON
    return OF_KIND[Provider.Kind(model.provider.kind)]._replace(**own)
