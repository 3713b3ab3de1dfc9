"""A provider's key, planted: it is sent to that provider, and is in no page, log, error, export, trail or dump."""

import hashlib
import io
import logging
import os
import subprocess

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from psycopg.conninfo import make_conninfo

from accounts.models import User
from bench.provider import Provider as Fake
from conversations import asking, exporting
from conversations.tests import cast
from conversations.tests.worker import carry_out
from council.models import Call, Council, Provider
from councilsite import backups
from governance.models import Event

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "sk-planted-3f9a81c2d7e64b05-zq"


@pytest.fixture
def provider():
    with Fake(tokens=40, tokens_per_second=0, first_token_ms=1, ranking="listed") as fake:
        cast.council(fake.url)
        yield fake


@pytest.fixture
def planted(provider, client):
    """Stored by the admin's own form, by an administrator."""
    root = User.objects.create_superuser("root@example.org", "correct horse battery")
    client.force_login(root)
    row = Provider.objects.get()
    form = {"name": row.name, "slug": row.slug, "kind": row.kind, "enabled": "on", "address": row.base_url}
    place = reverse("admin:council_provider_change", args=[row.pk])
    assert client.post(place, {**form, "private_address": "on", "new_key": KEY}).status_code == 302
    assert Provider.objects.get().api_key == KEY
    return root


def pages(client) -> str:
    said = []
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        said.append(client.get(reverse(f"{name}_changelist"), follow=True).content.decode())
        for row in model._default_manager.all()[:3]:
            said.append(client.get(reverse(f"{name}_change", args=[row.pk])).content.decode())
            said.append(client.get(reverse(f"{name}_history", args=[row.pk])).content.decode())
    said += [client.get(place).content.decode() for place in ("/", "/settings/", "/admin/")]
    return "\n".join(said)


def dump() -> str:
    """The whole database, as pg_dump writes it in words."""
    known = connection.get_connection_params()
    where = {name: known[name] for name in ("dbname", "user", "host", "port", "password") if known.get(name)}
    version = connection.pg_version // 10_000
    command = [backups._program("pg_dump", version), f"--dbname={make_conninfo(**where)}"]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("fault", ["", "refuse_auth", "echo"])
def test_it_is_nowhere_but_where_it_is_meant_to_be(planted, provider, client, caplog, capsys, fault):
    caplog.set_level(logging.DEBUG)
    if fault == "echo":  # a provider that repeats what it was sent
        provider.script({"kind": "answer"}, status=400, body={"error": {"message": f"Bearer {KEY} is no key of ours"}})
    elif fault:
        provider.script({"kind": "answer"}, fault=fault)
    turn = asking.ask(planted, "Where does the heron sleep?", Council.objects.get())
    carry_out(turn)
    assert {each["key_sha256"] for each in provider.requests()} == {hashlib.sha256(KEY.encode()).hexdigest()}
    call_command("roster", "dump", stdout=(roster := io.StringIO()))
    exported = [each.text(exporting.document(turn.conversation)) for each in exporting.FORMATS.values()]
    everything = {
        "pages": pages(client) + client.get(turn.conversation.get_absolute_url()).content.decode(),
        "logs": caplog.text + "".join(capsys.readouterr()),
        "errors": "\n".join(Call.objects.values_list("error", flat=True)),
        "audit trail": "\n".join(str(each.details) for each in Event.objects.all()),
        "roster": roster.getvalue(),
        "exports": "\n".join(exported),
        "dump": dump(),
    }
    assert "council_provider" in everything["dump"]
    assert Event.objects.filter(object_type="council.provider").exists()
    found = [name for name, text in everything.items() if KEY in text or KEY[10:] in text]
    assert not found
