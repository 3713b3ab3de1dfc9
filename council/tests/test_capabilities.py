"""What holds for a model where its own settings are left open, and that a plan has it and its provider is sent it."""

from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync

from council import calls, capabilities, plans
from council.core.values import Mode, Outcome, Plan, Request
from council.models import Call, LanguageModel, Provider
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


OWN = {
    "temperature": True,
    "json_schema": False,
    "usage_in_stream": False,
    "max_tokens_field": "max_tokens",
    "effort": "high",
    "first_token_seconds": 7,
    "between_tokens_seconds": 8,
    "call_seconds": 9,
}


@pytest.mark.parametrize("own", [{}, OWN], ids=["left open", "its own"])
def test_a_plan_has_all_that_holds_for_members_chairman_and_fallback_models(own):
    provider = rosters.provider(kind="openai")
    council = rosters.council(provider)
    spare = rosters.model(provider, "spare")
    council.fallbacks.create(role="member", position=0, language_model=spare)
    LanguageModel.objects.update(**own)
    spare.refresh_from_db()
    holds = {**capabilities.of(spare)._asdict(), "effort": spare.effort}
    del holds["images"]  # questions are text alone
    stored = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL).plan
    plan = Plan.from_json(stored)
    planned = [(plans.model_of(stored, each.index), each) for each in (*plan.members, plan.chairman)]
    planned += [(each.model, each.seat) for each in plans.stand_ins(stored, plan.members[0])]
    assert [model.name for model, _ in planned] == ["Alpha", "Beta", "Gamma", "Delta", "Spare"]
    for model, seat in planned:
        has = {**model._asdict(), "json_schema": seat.json_schema}
        assert {name: has[name] for name in holds} == holds


@pytest.mark.django_db(transaction=True)
class TestWhatArrivesAtTheProvider:
    def asked(self, fake, kind="compatible", **values):
        """The body of a call to such a model."""
        model = rosters.model(rosters.provider(fake.url, kind=kind), **values)
        request = Request(({"role": "user", "content": "Why?"},), 300, 0.7)

        async def ask():
            async with calls.connections():
                return await calls.ask_model(plans.snapshot(model), 1.0, request, purpose=Call.Purpose.ANSWER)

        assert async_to_sync(ask)().outcome is Outcome.COMPLETE
        (received,) = fake.requests()
        return received["body"]

    @pytest.mark.parametrize(
        ("kind", "phrased"),
        [
            ("compatible", {"reasoning_effort": "low"}),
            ("openai", {"reasoning_effort": "low"}),
            ("openrouter", {"reasoning": {"effort": "low"}}),
        ],
    )
    def test_its_effort_as_its_provider_phrases_it(self, fake, kind, phrased):
        body = self.asked(fake, kind, effort="low")
        assert {name: body[name] for name in body if name.startswith("reasoning")} == phrased

    def test_no_effort_where_none_is_chosen(self, fake):
        assert not [name for name in self.asked(fake) if name.startswith("reasoning")]

    @pytest.mark.parametrize(("takes", "sent"), [(None, True), (True, True), (False, False)])
    def test_usage_is_asked_for_where_it_reports_it_in_a_stream(self, fake, takes, sent):
        assert ("stream_options" in self.asked(fake, usage_in_stream=takes)) == sent

    @pytest.mark.parametrize(("takes", "sent"), [(None, True), (True, True), (False, False)])
    def test_a_temperature_where_it_takes_one(self, fake, takes, sent):
        assert ("temperature" in self.asked(fake, temperature=takes)) == sent

    @pytest.mark.parametrize(
        ("kind", "own", "name"),
        [
            ("compatible", "", "max_tokens"),
            ("compatible", "max_completion_tokens", "max_completion_tokens"),
            ("openai", "", "max_completion_tokens"),
            ("openai", "max_tokens", "max_tokens"),
        ],
    )
    def test_the_cap_by_the_name_that_it_wants(self, fake, kind, own, name):
        body = self.asked(fake, kind, max_tokens_field=own)
        assert {each: body[each] for each in body if each.startswith("max_")} == {name: 300}
