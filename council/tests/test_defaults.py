import pytest

from council import defaults, plans
from council.models import Council, LanguageModel, Provider
from council.providers import addresses
from council.tests import rosters
from governance.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def keyed(settings, monkeypatch, fake):
    settings.OPENROUTER_API_KEY = "sk-or-from-the-environment"
    monkeypatch.setattr(defaults, "OPENROUTER", fake.url)
    monkeypatch.setattr(addresses, "is_obviously_private", lambda _host: False)  # where the real one is
    fake.configure(models=[{"id": "openai/gpt-5.1", "name": "OpenAI: GPT-5.1", "context_length": 410_000}])
    return fake


def default():
    return Council.objects.get(default=True).slug


def test_without_a_key_there_is_the_practice_council(settings):
    settings.OPENROUTER_API_KEY = ""
    defaults.ensure_council(practice=True)
    (council,) = Council.objects.all()
    members, chairman = plans.line_up(council)
    assert [str(seat) for seat in [*members, chairman]] == ["Plain", "Careful", "Lively", "Chairman"]
    assert Provider.objects.get().kind == Provider.Kind.PRACTICE
    assert default() == "practice"


def test_with_a_key_there_is_the_frontier_council_too_and_before_it(keyed):
    defaults.ensure_council(practice=True)
    members, chairman = plans.line_up(Council.objects.get(slug="frontier"))
    assert [str(seat) for seat in members] == ["GPT-5.1", "Gemini 3 Pro", "Claude Sonnet 4.5", "Grok 4"]
    assert str(chairman) == "Gemini 3 Pro"
    assert Provider.objects.get(slug="openrouter").api_key == "sk-or-from-the-environment"
    assert default() == "frontier"
    assert Council.objects.count() == 2


def test_figures_are_refreshed_where_the_provider_can_be_reached(keyed):
    defaults.ensure_council(practice=False)
    assert LanguageModel.objects.get(slug="gpt-5-1").context == 410_000
    event = Event.objects.get(kind="changed", object_id="gpt-5-1")
    assert (event.details["changes"]["context"], event.actor) == ([400_000, 410_000], None)


def test_models_that_the_provider_has_dropped_are_named(keyed, caplog):
    defaults.ensure_council(practice=False)
    (line,) = (record.getMessage() for record in caplog.records if "no longer lists" in record.getMessage())
    assert "openai/gpt-5.1" not in line
    for dropped in ("google/gemini-3-pro-preview", "anthropic/claude-sonnet-4.5", "x-ai/grok-4"):
        assert dropped in line


def test_and_stay_as_they_are_where_it_cannot(keyed, monkeypatch, caplog):
    monkeypatch.setattr(defaults, "OPENROUTER", "http://127.0.0.1:9/v1")
    defaults.ensure_council(practice=False)
    assert LanguageModel.objects.get(slug="gpt-5-1").context == 400_000
    assert "cannot be reached" in caplog.text
    assert "sk-or" not in caplog.text


def test_a_second_start_changes_nothing_that_an_administrator_made(keyed):
    defaults.ensure_council(practice=True)
    Council.objects.update(name="Ours")
    Provider.objects.update(api_key="sk-another", enabled=False)
    LanguageModel.objects.update(name="Ours")
    Council.objects.get(slug="frontier").seats.first().delete()
    asked = len(keyed.requests())
    defaults.ensure_council(practice=True)
    assert set(Council.objects.values_list("name", flat=True)) == {"Ours"}
    assert {provider.api_key for provider in Provider.objects.all()} == {"sk-another"}
    assert set(LanguageModel.objects.values_list("name", flat=True)) == {"Ours"}
    assert Council.objects.get(slug="frontier").seats.count() == 4
    assert len(keyed.requests()) == asked


def test_a_key_that_comes_later_brings_the_frontier_council_and_makes_it_the_default(settings, keyed):
    settings.OPENROUTER_API_KEY = ""
    defaults.ensure_council(practice=True)
    settings.OPENROUTER_API_KEY = "sk-or-later"
    defaults.ensure_council(practice=True)
    assert default() == "frontier"


@pytest.mark.parametrize("practice", [True, False])
def test_what_has_a_name_that_it_would_take_stays_what_it_is(keyed, practice):
    ours = rosters.provider()
    rosters.council(ours, slug="frontier")
    rosters.council(ours, slug="practice")
    defaults.ensure_council(practice=practice)
    assert list(Provider.objects.all()) == [ours]


def test_an_administrators_default_stays_the_default(keyed):
    rosters.council(rosters.provider(), slug="ours", default=True)
    defaults.ensure_council(practice=True)
    assert default() == "ours"


def test_the_practice_council_stays_the_default_where_an_administrator_made_it_that(keyed):
    defaults.ensure_council(practice=True)
    Council.objects.update(default=False)
    Council.objects.filter(slug="practice").update(default=True)
    defaults.ensure_council(practice=True)
    assert default() == "practice"


def test_a_practice_council_that_is_there_is_switched_off_where_nobody_wants_it(settings):
    settings.OPENROUTER_API_KEY = ""
    defaults.ensure_council(practice=True)
    defaults.ensure_council(practice=False)
    council = Council.objects.get()
    assert not council.enabled
    assert not council.default


def test_the_practice_council_s_members_differ_by_prompt_and_temperature(settings):
    settings.OPENROUTER_API_KEY = ""
    defaults.ensure_council(practice=True)
    members = Council.objects.get().seats.filter(role="member")
    assert len(set(members.values_list("system_prompt", flat=True))) == 3
    assert len(set(members.values_list("temperature", flat=True))) == 3


def test_without_anything_there_is_no_council(settings):
    settings.OPENROUTER_API_KEY = ""
    defaults.ensure_council(practice=False)
    assert not Council.objects.exists()
