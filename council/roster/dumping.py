"""The roster in the database -> a file's text, which loads as the same roster."""

from typing import Any

import tomli_w
from django.db.models import Q

from council.models import Council, LanguageModel, Provider
from council.roster import values

_HEAD = """\
# The roster: providers, their models, and the councils that these sit in. docs/roster.md explains each key.
# Prices are micro-dollars a million tokens. API keys are not in here: api_key_env names the variable that has each.
"""


def dump() -> str:
    """Everything of the roster but API keys, each kind by its slug."""
    parts = [_HEAD]
    # Without the keys, which nothing here needs, and which may be sealed with a key that is lost.
    for provider in Provider.objects.order_by("slug").defer("api_key").annotate(has_key=~Q(api_key="")):
        said = values.of_provider(provider)
        if provider.has_key and not said["api_key_env"]:
            said["api_key_env"] = variable(provider.slug)
        parts.append(_table("providers", said))
    models = LanguageModel.objects.select_related("provider").order_by("provider__slug", "slug")
    parts += [_table("models", values.of_model(model)) for model in models]
    for council in Council.objects.order_by("slug"):
        said = values.of_council(council)
        parts.append(_table("councils", said))
        parts += [_table("seats", seat, "councils.seats") for seat in said["seats"]]
    return "\n".join(parts)


def variable(slug: str) -> str:
    """The environment variable of a provider whose key was typed in: OPENROUTER_API_KEY of openrouter."""
    name = f"{slug.upper().replace('-', '_')}_API_KEY"
    return f"_{name}" if name[0].isdigit() else name


def _table(kind: str, said: dict[str, Any], header: str = "") -> str:
    written = {key: value for key, value in values.told(kind, said).items() if key != "seats"}
    # Written as one line only where several would not be read as they are.
    lines = not any("\r" in value for value in written.values() if isinstance(value, str))
    return f"[[{header or kind}]]\n{tomli_w.dumps(written, multiline_strings=lines)}"
