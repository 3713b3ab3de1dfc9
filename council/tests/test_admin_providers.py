import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection

from accounts.models import User
from council.models import LanguageModel, Provider
from council.tests import rosters
from council.tests.admin_pages import MARKUP, errors, page, provider_form, run, said, save, url
from governance.tests.trail import events

pytestmark = pytest.mark.django_db


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

    def test_a_form_that_is_refused_says_that_the_key_is_to_be_entered_again(self, admin):
        response = admin.post(url(Provider, "add"), provider_form(new_key="sk-another-key", address="nowhere"))
        assert "enter it again" in response.text
        assert "sk-another-key" not in response.text

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

    @pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://ollama:11434/v1", "https://10.0.0.5/v1"])
    def test_one_in_a_private_network_has_to_be_ticked(self, admin, address):
        response = admin.post(url(Provider, "add"), provider_form(address=address, private_address=None))
        assert "Tick “is in a private network” if it is meant." in errors(response)
        assert not Provider.objects.exists()
        assert admin.post(url(Provider, "add"), provider_form(address=address)).status_code == 302

    def test_the_tick_is_not_taken_away_where_it_is_needed(self, admin, provider):
        response = save(admin, provider, provider_form(private_address=None))
        assert "Tick “is in a private network” if it is meant." in errors(response)
        assert Provider.objects.get().private_address

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

    def test_what_can_be_added_is_named_where_nothing_is_there_yet(self, admin, fake):
        (message,) = said(run(admin, Provider, "refresh_models", [rosters.provider(fake.url)]))
        assert "None of them is here yet. Add those that you want by their ids: fake/alpha, fake/beta" in message

    def test_it_is_told_with_what_each_model_was(self, admin, fake):
        provider = rosters.provider(fake.url)
        rosters.model(provider, "alpha", context=999)
        run(admin, Provider, "refresh_models", [provider])
        (did,) = events("did")
        assert (did.object_type, did.object_id) == ("council.provider", "fake")
        assert did.details == {"what": "Refreshed models: fake-alpha"}
        (changed,) = events("changed")
        assert (changed.object_type, changed.object_id) == ("council.languagemodel", "fake-alpha")
        assert changed.details["changes"]["context"] == [999, 128_000]
        assert did.actor == changed.actor == User.objects.get().actor

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
