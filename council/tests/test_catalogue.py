import pytest

from council.catalogue import NoCatalogue, Refreshed, refresh
from council.models import Provider
from council.providers import telling
from council.tests import rosters

pytestmark = pytest.mark.django_db

ENTRY = {
    "id": "fake/alpha",
    "name": "Fake: Alpha Ultra 5.1",
    "context_length": 128_000,
    "pricing": {"prompt": "0.00000125", "completion": "0.00001"},
    "supported_parameters": ["max_tokens", "structured_outputs"],
    "top_provider": {"max_completion_tokens": 16_384},
    "architecture": {"input_modalities": ["text", "image"]},
}


@pytest.fixture
def provider(fake):
    return rosters.provider(fake.url, kind=Provider.Kind.OPENROUTER)


@pytest.fixture
def model(provider):
    return rosters.model(provider)


def offer(fake, *entries):
    fake.configure(models=list(entries))


def test_everything_that_the_provider_tells_is_taken_over(fake, provider, model):
    offer(fake, ENTRY)
    changes = {
        "name": ["Alpha", "Alpha Ultra 5.1"],
        "context": [32_768, 128_000],
        "max_output": [None, 16_384],
        "input_price": [1_000_000, 1_250_000],
        "output_price": [2_000_000, 10_000_000],
        "temperature": [None, False],
        "json_schema": [None, True],
        "max_tokens_field": ["", "max_tokens"],
        "images": [None, True],
    }
    assert refresh(provider) == Refreshed(("Alpha Ultra 5.1",), (), 1, {model.slug: changes})
    model.refresh_from_db()
    assert model.name == "Alpha Ultra 5.1"
    assert model.context == 128_000
    assert model.max_output == 16_384
    assert (model.input_price, model.output_price) == (1_250_000, 10_000_000)
    assert (model.temperature, model.json_schema, model.images) == (False, True, True)


@pytest.mark.parametrize(
    ("parameters", "known"),
    [
        (["max_tokens", "reasoning"], ("max_tokens", "high")),
        (["max_completion_tokens", "reasoning_effort"], ("max_completion_tokens", "high")),
        (["max_tokens", "max_completion_tokens", "reasoning"], ("", "high")),
        (["reasoning", ["temperature"], None], ("", "high")),
        (["max_tokens", "temperature"], ("max_tokens", "")),
    ],
)
def test_the_name_of_the_cap_and_that_no_effort_is_taken_are_learnt(fake, provider, model, parameters, known):
    type(model).objects.update(effort="high")
    offer(fake, {"id": "fake/alpha", "supported_parameters": parameters})
    refresh(provider)
    model.refresh_from_db()
    assert (model.max_tokens_field, model.effort) == known


def test_a_second_time_there_is_nothing_to_change(fake, provider, model):
    offer(fake, ENTRY)
    refresh(provider)
    assert refresh(provider).updated == ()


def test_what_is_not_told_stays(fake, provider, model):
    offer(fake, {"id": "fake/alpha", "object": "model", "created": 1, "owned_by": "somebody"})
    before = type(model).objects.values().get()
    assert refresh(provider) == Refreshed((), (), 1)
    assert type(model).objects.values().get() == before


@pytest.mark.parametrize("name", ["max_model_len", "context_window", "max_context_length", "context_length"])
def test_other_servers_tell_the_context_by_other_names(fake, provider, model, name):
    offer(fake, {"id": "fake/alpha", name: 8192})
    assert refresh(provider).updated == ("Alpha",)
    model.refresh_from_db()
    assert (model.context, model.name) == (8192, "Alpha")


@pytest.mark.parametrize("price", ["-1", "free", "", None, "NaN", "Infinity", "1e999999", "5", [], {}, True])
def test_what_is_no_price_is_not_taken_for_one(fake, provider, model, price):
    offer(fake, {"id": "fake/alpha", "pricing": {"prompt": price}})
    refresh(provider)
    model.refresh_from_db()
    assert model.input_price == 1_000_000


def test_free_is_a_price(fake, provider, model):
    offer(fake, {"id": "fake/alpha", "pricing": {"prompt": "0", "completion": 0}})
    refresh(provider)
    model.refresh_from_db()
    assert (model.input_price, model.output_price) == (0, 0)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": 5, "context_length": "much", "pricing": [], "top_provider": None, "architecture": "text"},
        {"context_length": -1, "supported_parameters": "all", "top_provider": {"max_completion_tokens": 2**40}},
        {"context_length": 3, "supported_parameters": [], "architecture": {"input_modalities": None}, "name": "  "},
    ],
)
def test_what_makes_no_sense_is_left_out(fake, provider, model, entry):
    offer(fake, {"id": "fake/alpha", **entry})
    assert refresh(provider).updated == ()


def test_a_long_name_is_cut_and_can_be_stored(fake, provider, model):
    offer(fake, {"id": "fake/alpha", "name": "Maker: a\x00\n \u202eb" + "x" * 500})
    refresh(provider)
    model.refresh_from_db()
    assert model.name.startswith("a bxxx")
    assert len(model.name) == 100


def test_models_that_are_no_longer_listed_are_named_and_kept(fake, provider, model):
    rosters.model(provider, "omega")
    assert refresh(provider).missing == ("fake/omega",)
    assert provider.language_models.count() == 2


def test_models_of_other_providers_stay(fake, provider, model):
    other = rosters.model(rosters.provider(slug="other"))
    offer(fake, ENTRY)
    refresh(provider)
    other.refresh_from_db()
    assert other.name == "Alpha"


def test_models_that_are_not_here_are_not_added(fake, provider):
    assert refresh(provider).offered == 3
    assert not provider.language_models.exists()


def test_it_asks_with_the_key(fake, provider):
    refresh(provider)
    (request,) = fake.requests()
    assert (request["method"], request["path"], request["authorized"]) == ("GET", "/v1/models", True)


def test_a_bare_list_is_a_list(fake, provider, model):
    fake.script({"path": "/models"}, body=[ENTRY, "what?", {"name": "no id"}])
    assert refresh(provider).updated == ("Alpha Ultra 5.1",)


@pytest.mark.parametrize(
    ("respond", "words"),
    [
        ({"fault": "refuse_auth"}, "refused the API key. It says: Incorrect API key provided."),
        ({"fault": "redirect"}, "redirects elsewhere"),
        ({"fault": "not_json"}, "not the OpenAI-compatible protocol"),
        ({"fault": "server_error"}, "(HTTP 500)"),
        ({"status": 404, "body": "nothing here"}, "does not know this model or this address"),
        ({"body": {"data": "no list"}}, "not the OpenAI-compatible protocol"),
        ({"body": "[" * 100_000}, "not the OpenAI-compatible protocol"),
        ({"body": "null"}, "not the OpenAI-compatible protocol"),
        ({"raw": [[0, b"SSH-2.0-OpenSSH_9.6\r\n"]], "bare": True}, "not the OpenAI-compatible protocol"),
        ({"raw": [[0, b"HTTP/1.1 200 O\xff\r\n\r\n"]], "bare": True}, "not the OpenAI-compatible protocol"),
        ({"status": 401, "body": {"error": {"message": f"Wrong key {rosters.KEY}!"}}}, "It says: Wrong key …!"),
    ],
)
def test_what_is_wrong_is_said(fake, provider, model, respond, words):
    fake.script({"path": "/models"}, **respond)
    with pytest.raises(NoCatalogue) as raised:
        refresh(provider)
    assert str(raised.value).startswith("The list of models of Fake cannot be read.")
    assert words in str(raised.value)
    assert rosters.KEY not in str(raised.value)
    model.refresh_from_db()
    assert model.name == "Alpha"


def test_a_list_without_end_is_not_read_to_its_end(fake, provider, monkeypatch):
    monkeypatch.setattr(telling, "MOST_BYTES", 100_000)
    fake.script({"path": "/models"}, body="x" * 2_000_000)
    with pytest.raises(NoCatalogue, match="was not read within"):
        refresh(provider)


def test_a_list_that_drips_is_not_waited_for(fake, provider, monkeypatch):
    monkeypatch.setattr(telling, "SECONDS", 0.1)
    fake.script({"path": "/models"}, raw=[[0.02, b" "]] * 500)
    with pytest.raises(NoCatalogue, match="was not read within"):
        refresh(provider)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no.such.host.invalid/v1", "", "http://[bad/v1"])
def test_an_address_that_leads_nowhere(url):
    with pytest.raises(NoCatalogue, match="cannot be reached"):
        refresh(rosters.provider(url))


def test_a_list_in_a_private_network_is_asked_for_only_where_that_was_ticked(fake):
    here = rosters.provider(fake.url, private_address=False)
    with pytest.raises(NoCatalogue, match="is in a private network"):
        refresh(here)
    assert not fake.requests()
    here.private_address = True
    assert refresh(here).offered == 3


def test_a_key_that_no_header_can_carry():
    with pytest.raises(NoCatalogue, match="holds characters that no key has"):
        refresh(rosters.provider(api_key="sk-“secret”"))


def test_the_practice_model_has_no_list():
    with pytest.raises(NoCatalogue, match="ships with the site"):
        refresh(rosters.provider("", kind=Provider.Kind.PRACTICE))
