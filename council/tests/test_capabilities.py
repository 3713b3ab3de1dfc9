"""What holds for a model where its own settings are left open."""

from uuid import uuid4

import pytest

from council import capabilities, plans
from council.core.values import Mode, Plan
from council.models import Provider
from council.tests import rosters

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("kind", Provider.Kind.values)
def test_each_kind_of_provider_has_a_default_for_each(kind):
    model = rosters.model(rosters.provider(kind=kind))
    assert capabilities.of(model) == capabilities.OF_KIND[kind]
    assert None not in capabilities.of(model)


def test_the_kinds_differ_where_their_servers_do():
    """OpenAI's reasoning models reject what others take; a server of one's own loads the model first."""
    openrouter, openai, own = (capabilities.OF_KIND[each] for each in ("openrouter", "openai", "compatible"))
    assert (openrouter.temperature, openai.temperature, own.temperature) == (True, False, True)
    assert openai.max_tokens_field == "max_completion_tokens"
    assert {openrouter.max_tokens_field, own.max_tokens_field} == {"max_tokens"}
    assert own.first_token_seconds > openrouter.first_token_seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", True),
        ("json_schema", False),
        ("usage_in_stream", False),
        ("images", False),
        ("max_tokens_field", "max_tokens"),
        ("first_token_seconds", 7),
        ("between_tokens_seconds", 8),
        ("call_seconds", 9),
    ],
)
def test_what_the_model_has_itself_goes_first(name, value):
    model = rosters.model(rosters.provider(kind="openai"), **{name: value})
    kind = capabilities.OF_KIND["openai"]
    assert getattr(kind, name) != value
    assert capabilities.of(model) == kind._replace(**{name: value})


def test_a_plan_has_what_holds():
    provider = rosters.provider(kind="openai")
    council = rosters.council(provider)
    provider.language_models.filter(slug="fake-beta").update(temperature=True, json_schema=False, call_seconds=5)
    made = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
    alpha, beta, *_ = (plans.model_of(made.plan, seat) for seat in range(4))
    assert (alpha.temperature, alpha.max_tokens_field, alpha.call_seconds) == (False, "max_completion_tokens", 600)
    assert (beta.temperature, beta.max_tokens_field, beta.call_seconds) == (True, "max_completion_tokens", 5)
    assert [seat.json_schema for seat in Plan.from_json(made.plan).members] == [True, False, True]
