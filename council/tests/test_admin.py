import html
import re
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse

from accounts.models import User
from council import plans
from council.core.values import Mode
from council.models import Answer, Call, Council, Deliberation, LanguageModel, Provider, Seat
from council.tests import rosters

pytestmark = pytest.mark.django_db

MARKUP = "<script>alert(1)</script>\"'<b>"


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin@example.org", "correct horse battery"))
    return client


@pytest.fixture
def provider():
    return rosters.provider()


@pytest.fixture
def council(provider):
    return rosters.council(provider)


def url(model, page="changelist", *args):
    return reverse(f"admin:council_{model._meta.model_name}_{page}", args=args)


def page(response):
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def said(response):
    """The messages of a page, as they stand in it."""
    text = response.content.decode()
    return [
        re.sub(r"\s+", " ", found)
        for found in re.findall(r'<li class="(?:success|warning|error|info)">(.*?)</li>', text, re.DOTALL)
    ]


def errors(response):
    """What a form says is wrong."""
    assert response.status_code == 200
    found = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", each) for each in found))


def run(client, model, action, rows, **extra):
    chosen = {"action": action, "_selected_action": [str(row.pk) for row in rows], **extra}
    return client.post(url(model), chosen, follow=True)


def provider_form(**values):
    given = {
        "name": "Fake",
        "slug": "fake",
        "kind": "compatible",
        "enabled": "on",
        "address": "http://127.0.0.1:9/v1",
        "new_key": "",
        **values,
    }
    return {name: value for name, value in given.items() if value is not None}


def save(client, row, form):
    return client.post(url(type(row), "change", row.pk), form)


class TestEveryPage:
    @pytest.mark.parametrize("model", [Provider, LanguageModel, Council, Deliberation, Call])
    def test_opens(self, admin, council, model):
        deliberation = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        deliberation.save()
        Call.objects.create(deliberation=deliberation, purpose="answer", model_name="x", sent=deliberation.created)
        assert admin.get(url(model)).status_code == 200
        assert admin.get(url(model), {"q": "fake"}).status_code == 200
        assert admin.get(url(model, "change", model.objects.first().pk)).status_code == 200

    @pytest.mark.parametrize("model", [Provider, LanguageModel, Council])
    def test_adds(self, admin, model):
        assert admin.get(url(model, "add")).status_code == 200

    def test_is_for_administrators(self, client, council):
        assert client.get(url(Provider)).status_code == 302
        client.force_login(User.objects.create_user("member@example.org", "correct horse battery"))
        assert client.get(url(Provider)).status_code == 302

    def test_shows_names_as_text(self, admin, provider, council):
        Provider.objects.update(name=f"P{MARKUP}")
        LanguageModel.objects.filter(name="Alpha").update(name=f"M{MARKUP}")
        Council.objects.update(name=f"C{MARKUP}")
        Seat.objects.filter(position=1).update(name=f"S{MARKUP}")
        deliberation = plans.new_deliberation(uuid4(), Council.objects.get(), "Why?", (), Mode.FULL)
        deliberation.save()
        call = Call.objects.create(
            deliberation=deliberation,
            purpose="test",
            model_name=f"M{MARKUP}",
            provider_name=f"P{MARKUP}",
            error=f"E{MARKUP}",
            sent=deliberation.created,
        )
        for row in (provider, provider.language_models.first(), council, deliberation, call):
            for address in (url(type(row)), url(type(row), "change", row.pk)):
                text = admin.get(address).content.decode()
                assert "<script>alert(1)" not in text
                assert "<b>" not in text

    def test_a_slug_follows_the_name_once(self, admin, provider, council):
        save(admin, provider, provider_form(slug="another", name="Other"))
        provider.refresh_from_db()
        assert (provider.slug, provider.name) == ("fake", "Other")

    def test_a_provider_with_models_is_not_deleted(self, admin, council, provider):
        text = page(admin.post(url(Provider, "delete", provider.pk), {"post": "yes"}))
        assert "would require deleting the following protected related objects" in text
        assert Provider.objects.exists()

    def test_a_model_in_a_seat_is_not_deleted(self, admin, council):
        model = LanguageModel.objects.first()
        assert "protected" in page(admin.post(url(LanguageModel, "delete", model.pk), {"post": "yes"}))
        assert LanguageModel.objects.filter(pk=model.pk).exists()


class TestTheKey:
    def test_it_is_never_shown_only_how_it_ends(self, admin, provider):
        text = page(admin.get(url(Provider, "change", provider.pk)))
        assert rosters.KEY not in text
        assert "ends in …wxyz" in text
        assert 'type="password"' in text
        assert rosters.KEY not in page(admin.get(url(Provider)))

    def test_of_a_short_one_nothing_is_shown(self, admin):
        short = rosters.provider(slug="short", api_key="sk-short")
        text = page(admin.get(url(Provider, "change", short.pk)))
        assert "hort." not in text
        assert "It is not shown" in text

    def test_a_new_provider_keeps_the_key_that_was_entered(self, admin):
        response = admin.post(url(Provider, "add"), provider_form(new_key=f" {rosters.KEY} "))
        assert response.status_code == 302
        assert Provider.objects.get().api_key == rosters.KEY

    def test_the_database_holds_it_encrypted(self, admin, provider):
        with connection.cursor() as cursor:
            cursor.execute("SELECT api_key FROM council_provider")
            assert rosters.KEY not in str(cursor.fetchall())

    def test_empty_keeps_the_old_one(self, admin, provider):
        assert save(admin, provider, provider_form(name="Renamed")).status_code == 302
        provider.refresh_from_db()
        assert (provider.name, provider.api_key) == ("Renamed", rosters.KEY)

    def test_a_new_one_takes_its_place(self, admin, provider):
        save(admin, provider, provider_form(new_key="sk-another-key"))
        provider.refresh_from_db()
        assert provider.api_key == "sk-another-key"

    def test_it_can_be_removed(self, admin, provider):
        save(admin, provider, provider_form(remove_key="on"))
        provider.refresh_from_db()
        assert provider.api_key == ""

    def test_not_both(self, admin, provider):
        response = save(admin, provider, provider_form(remove_key="on", new_key="sk-another-key"))
        assert "Either enter a key or remove the stored one." in errors(response)
        assert "sk-another-key" not in page(response)

    @pytest.mark.parametrize("key", ["sk-“quoted”", "sk-two words", "sk-\ttab", "ключ"])
    def test_what_cannot_be_a_key_is_refused_and_not_repeated(self, admin, provider, key):
        response = save(admin, provider, provider_form(new_key=key))
        assert "characters that no key has" in errors(response)
        assert key not in page(response)

    def test_it_does_not_go_to_another_host_unknowingly(self, admin, provider):
        response = save(admin, provider, provider_form(address="https://elsewhere.example/v1"))
        assert "another host than before" in errors(response)
        provider.refresh_from_db()
        assert provider.base_url == "http://127.0.0.1:9/v1"

    @pytest.mark.parametrize("form", [{"new_key": "sk-another-key"}, {"remove_key": "on"}])
    def test_it_goes_there_knowingly(self, admin, provider, form):
        assert save(admin, provider, provider_form(address="https://elsewhere.example/v1", **form)).status_code == 302
        provider.refresh_from_db()
        assert provider.base_url == "https://elsewhere.example/v1"

    def test_another_path_on_the_same_host_is_no_other_host(self, admin, provider):
        assert save(admin, provider, provider_form(address="http://127.0.0.1:9/api/v2/")).status_code == 302
        provider.refresh_from_db()
        assert (provider.base_url, provider.api_key) == ("http://127.0.0.1:9/api/v2", rosters.KEY)

    def test_the_log_says_that_it_changed_and_no_more(self, admin, provider):
        save(admin, provider, provider_form(new_key="sk-another-key"))
        admin.post(url(Provider, "add"), provider_form(slug="two", name="Two", new_key="sk-a-third-key"))
        kept = " ".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())
        assert "API key" in kept
        assert "sk-" not in kept
        assert "sk-" not in page(admin.get(url(Provider, "history", provider.pk)))

    def test_a_key_that_cannot_be_read_any_more_can_be_replaced(self, admin, provider, settings):
        fernet = "bmV3IGtleSBmb3IgdGVzdHMsIGFuZCBubyBzZWNyZXQ="
        settings.FIELD_KEYS = [fernet]
        assert admin.get(url(Provider)).status_code == 200
        assert "cannot be read any more" in page(admin.get(url(Provider, "change", provider.pk)))
        assert save(admin, provider, provider_form(name="Renamed")).status_code == 302
        assert save(admin, provider, provider_form(new_key="sk-another-key")).status_code == 302
        assert Provider.objects.get().api_key == "sk-another-key"


class TestTheAddress:
    @pytest.mark.parametrize(
        "address",
        [
            "https://openrouter.ai/api/v1",
            "http://localhost:11434/v1",
            "http://ollama:11434/v1",
            "http://vllm_server/v1",
            "http://[::1]:8000/v1",
            "http://10.0.0.5/v1/",
        ],
    )
    def test_addresses_of_providers_and_of_the_own_network(self, admin, address):
        assert admin.post(url(Provider, "add"), provider_form(address=address)).status_code == 302
        assert Provider.objects.get().base_url == address.rstrip("/")

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("ftp://example.org/v1", "begins with http:// or https://"),
            ("javascript:alert(1)", "begins with http:// or https://"),
            ("openrouter.ai/api/v1", "begins with http:// or https://"),
            ("http://", "begins with http:// or https://"),
            ("http://[bad/v1", "begins with http:// or https://"),
            ("http://host:99999/v1", "begins with http:// or https://"),
            ("http://host name/v1", "begins with http:// or https://"),
            ("http://host\u202e/v1", "begins with http:// or https://"),
            ("https://user:secret@example.org/v1", "no user name or password"),
            ("https://user@example.org/v1", "no user name or password"),
            ("https://example.org/v1?key=secret", "no “?” and no “#”"),
            ("https://example.org/v1#x", "no “?” and no “#”"),
            ("", "A provider needs an address"),
        ],
    )
    def test_what_is_no_address(self, admin, address, words):
        assert words in errors(admin.post(url(Provider, "add"), provider_form(address=address)))
        assert not Provider.objects.exists()

    def test_the_practice_model_needs_none(self, admin):
        assert admin.post(url(Provider, "add"), provider_form(address="", kind="practice")).status_code == 302


class TestRefreshing:
    def test_it_says_what_changed_and_what_is_gone(self, admin, fake):
        provider = rosters.provider(fake.url)
        rosters.model(provider, "alpha", context=999)
        rosters.model(provider, "omega")
        done, gone = said(run(admin, Provider, "refresh_models", [provider]))
        assert done == "Fake lists 3 models. Changed here: Alpha."
        assert gone == "Fake no longer lists fake/omega. Calls to them may fail."
        assert LanguageModel.objects.get(slug="fake-alpha").context == 128_000

    def test_it_says_what_is_wrong(self, admin, provider):
        (message,) = said(run(admin, Provider, "refresh_models", [provider]))
        assert message.startswith("The list of models of Fake cannot be read. http://127.0.0.1:9/v1 cannot be reached.")

    def test_what_a_provider_says_is_text(self, admin, fake):
        provider = rosters.provider(fake.url)
        rosters.model(provider)
        fake.configure(models=[{"id": "fake/alpha", "name": MARKUP}])
        assert "<script>" not in said(run(admin, Provider, "refresh_models", [provider]))[0]
        fake.script({"path": "/models"}, status=400, body={"error": {"message": MARKUP}})
        (message,) = said(run(admin, Provider, "refresh_models", [provider]))
        assert "&lt;script&gt;" in message


def model_form(provider, **values):
    given = {
        "name": "Alpha",
        "provider": provider.pk,
        "slug": "alpha",
        "model_id": "fake/alpha",
        "enabled": "on",
        "context": 32768,
        "max_output": "",
        "input_price": "",
        "output_price": "",
        "max_tokens_field": "max_tokens",
        "effort": "",
        "first_token_seconds": 120,
        "between_tokens_seconds": 60,
        "call_seconds": 600,
    }
    return given | values


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
        assert "Fake has been removed or switched off." in said(run(admin, LanguageModel, "test_call", [model]))[0]

    def test_six_are_too_many(self, admin, fake):
        provider = rosters.provider(fake.url)
        models = [rosters.model(provider, f"m{n}") for n in range(6)]
        (message,) = said(run(admin, LanguageModel, "test_call", models))
        assert "Choose at most 5 models" in message
        assert not fake.requests()

    def test_it_is_for_who_may_change_models(self, client, fake):
        model = rosters.model(rosters.provider(fake.url))
        client.force_login(User.objects.create_user("staff@example.org", "correct horse battery", is_staff=True))
        run(client, LanguageModel, "test_call", [model])
        assert not fake.requests()


def council_form(council=None, seats=(), **values):
    """The form of a council; a seat is (row or None, role, model, more)."""
    given = {
        "name": "Ours",
        "slug": "ours",
        "description": "",
        "enabled": "on",
        "answer_tokens": 4000,
        "review_tokens": 1500,
        "synthesis_tokens": 4000,
        "seats-TOTAL_FORMS": len(seats),
        "seats-INITIAL_FORMS": sum(row is not None for row, *_ in seats),
    }
    for place, (row, role, model, *more) in enumerate(seats):
        seat = {
            "id": row.pk if row else "",
            "council": council.pk if council else "",
            "role": role,
            "position": place,
            "language_model": model.pk if model else "",
            "name": "",
            "temperature": "",
            "system_prompt": "",
            **(more[0] if more else {}),
        }
        given |= {f"seats-{place}-{name}": value for name, value in seat.items()}
    return {name: value for name, value in (given | values).items() if value is not None}


class TestCouncils:
    @pytest.fixture
    def models(self, provider):
        return [rosters.model(provider, name) for name in ("alpha", "beta", "gamma", "delta")]

    def add(self, admin, *seats, **values):
        return admin.post(url(Council, "add"), council_form(seats=[(None, *seat) for seat in seats], **values))

    def test_a_new_one_begins_with_rows_for_three_members_and_a_chairman(self, admin):
        text = admin.get(url(Council, "add")).content.decode()
        rows = re.findall(r'<select name="seats-\d-role".*?</select>', text, re.DOTALL)
        chosen = [re.search(r'value="(\w+)" selected', row)[1] for row in rows]
        assert chosen == ["member", "member", "member", "chairman"]

    def test_rows_left_as_they_are_are_no_seats(self, admin, models):
        alpha, beta, _, delta = models
        response = self.add(admin, ("member", alpha), ("member", beta), ("member", None), ("chairman", delta))
        assert response.status_code == 302
        members, chairman = plans.line_up(Council.objects.get())
        assert [str(seat) for seat in [*members, chairman]] == ["Alpha", "Beta", "Delta"]

    @pytest.mark.parametrize(
        ("roles", "words"),
        [
            ("mm", "A council needs a chairman. Add a seat with that role."),
            (
                "mc",
                "at least two members whose model and provider are enabled; of the members here that is so for 1 of 1",
            ),
            ("c", "for 0 of 0"),
            ("", "A council needs a chairman."),
            ("mmcc", "A council has one chairman; this one has 2."),
        ],
    )
    def test_what_is_missing_is_said(self, admin, models, roles, words):
        names = {"m": "member", "c": "chairman"}
        response = self.add(admin, *((names[role], model) for role, model in zip(roles, models, strict=False)))
        assert words in errors(response)
        assert not Council.objects.exists()

    def test_what_was_typed_is_kept(self, admin, models):
        alpha, beta, *_ = models
        response = self.add(
            admin, ("member", alpha, {"name": "The first", "system_prompt": "Be bold."}), ("member", beta)
        )
        text = page(response)
        assert 'value="The first"' in text
        assert "Be bold." in text
        assert f'<option value="{beta.pk}" selected>' in text
        assert 'value="Ours"' in text

    def test_a_model_that_is_switched_off_does_not_count(self, admin, models):
        alpha, beta, gamma, delta = models
        LanguageModel.objects.filter(pk=alpha.pk).update(enabled=False)
        seats = [("member", alpha), ("member", beta), ("chairman", delta)]
        assert "for 1 of 2" in errors(self.add(admin, *seats))
        assert self.add(admin, *seats, ("member", gamma)).status_code == 302

    def test_neither_does_one_of_a_provider_that_is(self, admin, models):
        Provider.objects.update(enabled=False)
        wrong = errors(self.add(admin, ("member", models[0]), ("member", models[1]), ("chairman", models[2])))
        assert "for 0 of 2" in wrong
        assert "The chairman's model, Gamma (Fake), is switched off, or its provider is." in wrong

    def test_one_that_is_switched_off_may_be_incomplete(self, admin, models):
        assert self.add(admin, ("member", models[0]), enabled=None).status_code == 302
        assert not Council.objects.get().enabled

    def test_but_never_has_two_chairmen(self, admin, models):
        response = self.add(admin, ("chairman", models[0]), ("chairman", models[1]), enabled=None)
        assert "one chairman; this one has 2" in errors(response)

    def test_a_model_may_sit_twice(self, admin, models):
        response = self.add(admin, ("member", models[0]), ("member", models[0]), ("chairman", models[0]))
        assert response.status_code == 302

    def test_two_seats_can_change_places(self, admin, council):
        a, b, c, d = council.seats.order_by("position")
        seats = [
            (a, "chairman", a.language_model),
            (b, "member", b.language_model),
            (c, "member", c.language_model),
            (d, "member", d.language_model),
        ]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        assert list(council.seats.order_by("position").values_list("role", flat=True)) == [
            "chairman",
            "member",
            "member",
            "member",
        ]

    def test_a_chairman_can_be_removed_for_another(self, admin, council):
        a, b, c, d = council.seats.order_by("position")
        seats = [(each, "member", each.language_model) for each in (a, b, c)]
        seats += [(d, "chairman", d.language_model, {"DELETE": "on"}), (None, "chairman", a.language_model)]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        assert [str(seat) for seat in council.seats.filter(role="chairman")] == ["Alpha"]

    def test_a_chairman_that_is_removed_is_missed(self, admin, council):
        seats = [(each, each.role, each.language_model) for each in council.seats.order_by("position")]
        seats[3] = (*seats[3], {"DELETE": "on"})
        assert "needs a chairman" in errors(save(admin, council, council_form(council, seats)))
        assert council.seats.count() == 4

    def test_making_one_the_default_takes_it_from_the_other(self, admin, council, provider):
        Council.objects.update(default=True)
        seats = [(None, each.role, each.language_model) for each in council.seats.order_by("position")]
        response = admin.post(url(Council, "add"), council_form(seats=seats, default="on"))
        assert response.status_code == 302, errors(response)
        assert list(Council.objects.filter(default=True).values_list("slug", flat=True)) == ["ours"]

    def test_the_default_must_be_enabled(self, admin, models):
        assert "The default council must be enabled." in errors(self.add(admin, default="on", enabled=None))

    def test_groups_are_kept(self, admin, council):
        from django.contrib.auth.models import Group

        group = Group.objects.create(name="Directors")
        seats = [(each, each.role, each.language_model) for each in council.seats.order_by("position")]
        save(admin, council, council_form(council, seats, groups=[group.pk]))
        assert list(council.groups.all()) == [group]

    def test_the_list_says_who_sits_and_whether_it_can_be_asked(self, admin, council):
        text = page(admin.get(url(Council)))
        assert "Alpha, Beta, Gamma" in text
        assert "Delta" in text
        row = re.search(r'field-usable">(.*?)</td>', text)[1]
        assert 'alt="True"' in row
        LanguageModel.objects.filter(name="Delta").update(enabled=False)
        assert 'alt="False"' in re.search(r'field-usable">(.*?)</td>', page(admin.get(url(Council))))[1]

    def test_no_change_here_changes_a_past_deliberation(self, admin, council, provider):
        made = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        made.save()
        plan = Deliberation.objects.get().plan
        a, b, c, d = council.seats.order_by("position")
        seats = [
            (a, "member", d.language_model, {"name": "Renamed", "system_prompt": "Other."}),
            (b, "chairman", a.language_model),
            (c, "member", c.language_model, {"DELETE": "on"}),
            (d, "member", d.language_model),
        ]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        model = LanguageModel.objects.get(slug="fake-alpha")
        assert (
            save(admin, model, model_form(provider, name="Other", model_id="other", input_price="9")).status_code == 302
        )
        assert admin.post(url(Council, "delete", council.pk), {"post": "yes"}).status_code == 302
        now = Deliberation.objects.get()
        assert now.plan == plan
        assert (now.council, now.council_name) == (None, "Council test")
        assert plans.model_of(now.plan, 0).name == "Alpha"


class TestDeliberations:
    @pytest.fixture
    def deliberation(self, council):
        made = plans.new_deliberation(uuid4(), council, "What is the secret question?", (), Mode.FULL)
        made.save()
        Answer.objects.create(deliberation=made, seat=0, text="The secret answer.", state="ended", outcome="complete")
        for cost in (1_000_000, 250_000, None):
            Call.objects.create(deliberation=made, purpose="answer", model_name="x", sent=made.created, cost=cost)
        return made

    def pages(self, admin, deliberation):
        return [
            page(admin.get(address))
            for address in (
                url(Deliberation),
                url(Deliberation, "change", deliberation.pk),
                url(Deliberation) + "?q=secret",
                url(Deliberation) + f"?q={deliberation.pk}",
                url(Call),
            )
        ]

    def test_nothing_that_was_asked_or_answered_is_shown(self, admin, deliberation):
        for text in self.pages(admin, deliberation):
            assert "secret question" not in text
            assert "secret answer" not in text
            assert deliberation.plan["nonce"] not in text

    def test_a_question_cannot_be_searched_for(self, admin, deliberation):
        assert "0 deliberations" in page(admin.get(url(Deliberation) + "?q=secret"))

    def test_one_is_found_by_its_id(self, admin, deliberation):
        assert "1 deliberation" in page(admin.get(url(Deliberation) + f"?q={deliberation.pk}"))

    def test_it_tells_what_was_spent(self, admin, deliberation):
        for text in self.pages(admin, deliberation)[:2]:
            assert "$1.25" in text

    def test_it_is_for_reading_alone(self, admin, deliberation):
        call = Call.objects.first()
        for row in (deliberation, call):
            assert admin.get(url(type(row), "add")).status_code == 403
            assert admin.post(url(type(row), "delete", row.pk), {"post": "yes"}).status_code == 403
            assert admin.post(url(type(row), "change", row.pk), {"status": "failed"}).status_code == 403
            assert "delete_selected" not in page(admin.get(url(type(row))))

    def test_stop_asks_the_workers_to_stop_what_goes_on(self, admin, deliberation, council):
        done = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        done.status = "complete"
        done.save()
        (message,) = said(run(admin, Deliberation, "stop", [deliberation, done]))
        assert message == "1 deliberation is being stopped."
        assert list(Deliberation.objects.filter(cancel_requested=True)) == [deliberation]
        assert LogEntry.objects.get().change_message == "Stopped."

    def test_stopping_is_not_for_who_may_only_look(self, client, deliberation):
        from django.contrib.auth.models import Permission

        looker = User.objects.create_user("looker@example.org", "correct horse battery", is_staff=True)
        looker.user_permissions.add(Permission.objects.get(codename="view_deliberation"))
        client.force_login(looker)
        assert client.get(url(Deliberation)).status_code == 200
        run(client, Deliberation, "stop", [deliberation])
        assert not Deliberation.objects.filter(cancel_requested=True).exists()


class TestCalls:
    def test_the_list_costs_the_same_for_one_and_for_many(self, admin, council, django_assert_max_num_queries):
        model = LanguageModel.objects.first()
        sent = User.objects.first().date_joined
        Call.objects.bulk_create(
            Call(purpose="test", model_name="x", language_model=model, sent=sent) for _ in range(60)
        )
        with django_assert_max_num_queries(12):
            admin.get(url(Call))

    def test_filters(self, admin, council):
        alpha, beta = LanguageModel.objects.filter(name__in=["Alpha", "Beta"]).order_by("name")
        sent = User.objects.first().date_joined
        Call.objects.create(purpose="answer", model_name="Alpha", language_model=alpha, sent=sent, outcome="complete")
        Call.objects.create(purpose="test", model_name="Beta", language_model=beta, sent=sent, outcome="failed")
        for query in (
            {"model": alpha.pk},
            {"outcome__exact": "complete"},
            {"purpose__exact": "answer"},
            {"q": "Alpha"},
        ):
            assert "1 call" in page(admin.get(url(Call), query))
        assert "2 calls" in page(admin.get(url(Call), {"language_model__provider__id__exact": alpha.provider_id}))
        assert "2 calls" in page(admin.get(url(Call), {"model": "nonsense"}))
