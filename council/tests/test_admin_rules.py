"""The rules for calls, breakers, limits and fallback models, as an administrator sees them."""

import pytest
from django.utils import timezone

from accounts.models import User
from council import plans
from council.models import Breaker, Call, CallPolicy, Council, Fallback, LanguageModel, Provider
from council.providers.policy import Policy
from council.tests import rosters
from council.tests.admin_pages import errors, page, provider_form, run, said, save, url
from council.tests.test_admin_councils import council_form

pytestmark = pytest.mark.django_db


def rules_form(**values):
    return {
        "attempts": 2,
        "longest_wait_seconds": 120,
        "repeat_after_timeout": "on",
        "connect_seconds": 10,
        "breaker_failures": 5,
        "breaker_percent": 50,
        "breaker_least_calls": 10,
        "breaker_open_seconds": 30,
        **values,
    }


class TestTheRulesForCalls:
    def test_the_defaults_of_the_form_are_those_that_hold_without_a_row(self):
        assert CallPolicy().values() == Policy()

    def test_the_list_leads_to_the_one_form_and_every_field_is_explained(self, admin):
        text = page(admin.get(url(CallPolicy), follow=True))
        for field in CallPolicy._meta.fields[1:]:
            assert str(field.help_text) in text
            assert field.help_text

    def test_they_are_kept(self, admin):
        row = CallPolicy.objects.create(pk=1)
        assert save(admin, row, rules_form(attempts=4, breaker_percent=25)).status_code == 302
        assert CallPolicy.objects.get().values() == Policy(attempts=4, share=0.25)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("attempts", 0), ("attempts", 11), ("longest_wait_seconds", 3601), ("breaker_percent", 101), ("attempts", "")],
    )
    def test_what_makes_no_sense_is_refused_and_stays_in_the_form(self, admin, field, value):
        row = CallPolicy.objects.create(pk=1)
        response = save(admin, row, rules_form(**{field: value}))
        assert errors(response)
        assert f'value="{value}"' in response.content.decode() or value == ""
        assert CallPolicy.objects.get().values() == Policy()

    def test_who_may_not_change_them_gets_no_form(self, client):
        client.force_login(User.objects.create_user("staff@example.org", "correct horse battery", is_staff=True))
        assert client.get(url(CallPolicy)).status_code == 403


class TestBreakers:
    @pytest.fixture
    def breaker(self, council):
        model = LanguageModel.objects.get(name="Alpha")
        return Breaker.objects.create(
            language_model=model, state="open", opened=timezone.now(), until=timezone.now(), error="It was down."
        )

    def test_the_list_says_which_model_is_left_alone_and_why(self, admin, breaker):
        text = page(admin.get(url(Breaker)))
        for words in ("Alpha", "Fake", "open: it is left alone", "It was down."):
            assert words in text

    def test_reset_closes_it_and_earlier_failures_count_no_more(self, admin, breaker):
        before = breaker.since
        assert said(run(admin, Breaker, "reset", [breaker])) == ["1 model is asked again."]
        breaker.refresh_from_db()
        assert (breaker.state, breaker.probe, breaker.until) == ("closed", None, None)
        assert breaker.since > before

    def test_who_may_only_look_cannot_reset(self, client, breaker):
        from django.contrib.auth.models import Permission

        staff = User.objects.create_user("staff@example.org", "correct horse battery", is_staff=True)
        staff.user_permissions.add(Permission.objects.get(codename="view_breaker"))
        client.force_login(staff)
        run(client, Breaker, "reset", [breaker])
        breaker.refresh_from_db()
        assert breaker.state == "open"


class TestLimits:
    def test_a_providers_is_kept_and_may_be_none(self, admin, provider):
        save(admin, provider, provider_form(concurrency="3"))
        assert Provider.objects.get().concurrency == 3
        save(admin, provider, provider_form(concurrency=""))
        assert Provider.objects.get().concurrency is None

    def test_none_at_a_time_is_refused(self, admin, provider):
        assert "greater than or equal to 1" in errors(save(admin, provider, provider_form(concurrency="0")))


class TestFallbackModels:
    def test_they_are_kept_in_their_order(self, admin, provider):
        alpha, beta, gamma = (rosters.model(provider, name) for name in ("alpha", "beta", "gamma"))
        seats = [(None, "member", alpha), (None, "member", beta), (None, "chairman", alpha)]
        form = council_form(seats=seats, fallbacks=[("member", gamma), ("member", alpha), ("chairman", gamma)])
        assert admin.post(url(Council, "add"), form).status_code == 302
        made = Council.objects.get()
        assert list(made.fallbacks.values_list("role", "language_model__name")) == [
            ("member", "Gamma"),
            ("member", "Alpha"),
            ("chairman", "Gamma"),
        ]
        assert len(plans.line_up(made)[0]) == 2

    def test_the_same_model_twice_for_the_same_role_is_refused(self, admin, provider):
        alpha, beta = (rosters.model(provider, name) for name in ("alpha", "beta"))
        seats = [(None, "member", alpha), (None, "member", beta), (None, "chairman", alpha)]
        form = council_form(seats=seats, fallbacks=[("member", beta), ("member", beta)])
        assert "duplicate" in errors(admin.post(url(Council, "add"), form))
        assert not Fallback.objects.exists()


def test_a_call_that_never_went_out_is_shown_without_times(admin, council):
    Call.objects.create(purpose="answer", model_name="Alpha", provider_name="Fake", state="queued", sent=None)
    text = page(admin.get(url(Call)))
    assert "waiting" in text
    assert page(admin.get(url(Call), {"state__exact": "queued"})).count("Alpha") >= 1
