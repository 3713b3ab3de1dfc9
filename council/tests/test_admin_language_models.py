import re

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from accounts.models import User
from council.models import Call, LanguageModel, Provider
from council.tests import rosters
from council.tests.admin_pages import errors, model_form, page, run, said, save, url
from governance.tests.trail import last

pytestmark = pytest.mark.django_db


class TestModels:
    def test_prices_are_dollars_a_million(self, admin, provider):
        form = model_form(provider, input_price="1.25", output_price="0.0375")
        assert admin.post(url(LanguageModel, "add"), form).status_code == 302
        model = LanguageModel.objects.get()
        assert (model.input_price, model.output_price) == (1_250_000, 37_500)
        text = page(admin.get(url(LanguageModel)))
        assert "$1.25" in text
        assert "$0.0375" in text
        text = page(admin.get(url(LanguageModel, "change", model.pk)))
        assert 'value="1.25"' in text
        assert 'value="0.0375"' in text

    @pytest.mark.parametrize(("micro", "shown"), [(0, "0"), (10_000_000, "10"), (100_000_000, "100"), (1, "0.000001")])
    def test_saving_without_a_change_changes_no_price(self, admin, provider, micro, shown):
        model = rosters.model(provider, input_price=micro, output_price=None)
        text = page(admin.get(url(LanguageModel, "change", model.pk)))
        typed = re.search(r'name="input_price" value="([^"]*)"', text)[1]
        assert typed == shown
        save(admin, model, model_form(provider, input_price=typed))
        model.refresh_from_db()
        assert (model.input_price, model.output_price) == (micro, None)
        assert "rice" not in LogEntry.objects.latest("pk").change_message

    @pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "much", "1e9", "0.0000001"])
    def test_what_is_no_price(self, admin, provider, price):
        response = admin.post(url(LanguageModel, "add"), model_form(provider, input_price=price))
        assert errors(response)
        assert f'value="{price}"' in page(response), "what was typed is kept"

    def test_a_model_is_there_once_a_provider(self, admin, provider):
        rosters.model(provider)
        response = admin.post(url(LanguageModel, "add"), model_form(provider, slug="again"))
        assert "already exists" in errors(response)

    def test_the_room_is_not_too_small(self, admin, provider):
        assert errors(admin.post(url(LanguageModel, "add"), model_form(provider, context=100)))

    @pytest.mark.parametrize("name", ["first_token_seconds", "between_tokens_seconds", "call_seconds"])
    def test_no_time_at_all_is_no_time_limit(self, admin, provider, name):
        assert "greater than or equal to 1" in errors(
            admin.post(url(LanguageModel, "add"), model_form(provider, **{name: 0}))
        )

    def test_what_is_left_open_is_told_as_its_kind_of_provider_has_it(self, admin, provider):
        model = rosters.model(provider)
        given = model_form(provider, first_token_seconds="", call_seconds=1, json_schema="False")
        assert save(admin, model, given).status_code == 302
        model.refresh_from_db()
        assert (model.first_token_seconds, model.json_schema, model.temperature) == (None, False, None)
        shown = page(admin.get(url(LanguageModel, "change", model.pk)))
        assert "takes a temperature: yes; takes a JSON schema: no; reports usage in a stream: yes" in shown
        assert "first token seconds: 300; between tokens seconds: 60; call seconds: 1" in shown
        assert ">None<" not in page(admin.get(url(LanguageModel, "add")))

    def test_who_approves_by_the_form_is_kept_with_their_note(self, admin, provider):
        model = rosters.model(provider, approval="proposed")
        assert save(admin, model, model_form(provider, approval="proposed", context=4096)).status_code == 302
        model.refresh_from_db()
        assert (model.context, model.decided, model.decided_by) == (4096, None, None)
        note = "Tried on Monday; no training on what it is sent."
        form = model_form(provider, approval="approved", approval_note=note, context=4096)
        before = timezone.now()
        assert save(admin, model, form).status_code == 302
        model.refresh_from_db()
        assert (model.approval, model.approval_note, model.decided_by) == ("approved", note, User.objects.get())
        assert model.decided >= before
        changes = last("changed").details["changes"]
        assert changes["approval"] == ["proposed", "approved"]
        assert changes["approval_note"] == ["", note]

    def test_what_was_learnt_is_not_for_editing(self, admin, provider):
        model = rosters.model(provider, tokens_per_byte=0.31)
        save(admin, model, model_form(provider, tokens_per_byte="2"))
        model.refresh_from_db()
        assert model.tokens_per_byte == 0.31


@pytest.mark.django_db(transaction=True)
class TestATestCall:
    def test_it_shows_what_came_back(self, admin, fake):
        model = rosters.model(rosters.provider(fake.url))
        fake.script(fault="fixed_text", text="Hello there. " * 100)
        (message,) = said(run(admin, LanguageModel, "test_call", [model]))
        assert re.match(r"Alpha \(Fake\) answered in \d+\.\d s: Hello there\. Hello", message)
        assert 300 < len(message) < 350
        call = Call.objects.get()
        assert (call.purpose, call.outcome, call.deliberation) == ("test", "complete", None)
        assert fake.requests()[0]["authorized"]

    def test_it_shows_the_providers_own_error(self, admin, fake):
        model = rosters.model(rosters.provider(fake.url))
        fake.script(fault="refuse_auth")
        (message,) = said(run(admin, LanguageModel, "test_call", [model]))
        assert "Alpha (Fake) failed after" in message
        assert "It says: Incorrect API key provided." in message

    def test_what_a_model_writes_is_text(self, admin, fake):
        model = rosters.model(rosters.provider(fake.url))
        fake.script(fault="html")
        response = run(admin, LanguageModel, "test_call", [model])
        assert "document.title='owned'\">" not in response.content.decode()
        assert "&lt;script&gt;" in said(response)[0]

    def test_several_are_asked_at_once_and_each_has_its_message(self, admin, fake):
        provider = rosters.provider(fake.url)
        models = [rosters.model(provider, name) for name in ("alpha", "beta", "gamma")]
        fake.script({"model": "fake/beta"}, fault="empty")
        messages = said(run(admin, LanguageModel, "test_call", models))
        assert ["answered" in message for message in messages] == [True, False, True]
        assert "returned no text" in messages[1]
        assert len(fake.requests()) == 3

    def test_a_model_that_is_switched_off_can_be_tried_but_not_its_provider(self, admin, fake):
        provider = rosters.provider(fake.url)
        model = rosters.model(provider, enabled=False)
        assert "answered" in said(run(admin, LanguageModel, "test_call", [model]))[0]
        Provider.objects.update(enabled=False)
        assert "or its provider Fake was switched off." in said(run(admin, LanguageModel, "test_call", [model]))[0]

    def test_six_are_too_many(self, admin, fake):
        provider = rosters.provider(fake.url)
        models = [rosters.model(provider, f"m{n}") for n in range(6)]
        (message,) = said(run(admin, LanguageModel, "test_call", models))
        assert "Choose at most 5 models" in message
        assert not fake.requests()

    @pytest.mark.parametrize(
        ("rights", "asked"),
        [(("view",), 0), (("view", "change"), 0), (("view", "approve"), 1)],
        ids=["looks", "changes", "approves"],
    )
    def test_it_is_for_who_may_approve_models(self, client, fake, rights, asked):
        from django.contrib.auth.models import Permission

        model = rosters.model(rosters.provider(fake.url))
        staff = User.objects.create_user("staff@example.org", "correct horse battery", is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename__in=[f"{each}_languagemodel" for each in rights]))
        client.force_login(staff)
        page_of_models = page(client.get(url(LanguageModel)))
        assert "Alpha" in page_of_models
        assert ('value="test_call"' in page_of_models) == bool(asked)
        run(client, LanguageModel, "test_call", [model])
        assert len(fake.requests()) == asked
