"""Pages of the admin: opening them, filling in their forms and reading what they say."""

import html
import re

from django.urls import reverse

MARKUP = "<script>alert(1)</script>\"'<b>"


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


def save(client, row, form):
    return client.post(url(type(row), "change", row.pk), form)


def provider_form(**values):
    given = {
        "name": "Fake",
        "slug": "fake",
        "kind": "compatible",
        "enabled": "on",
        "address": "http://127.0.0.1:9/v1",
        "private_address": "on",
        "new_key": "",
        **values,
    }
    return {name: value for name, value in given.items() if value is not None}


def model_form(provider, **values):
    given = {
        "name": "Alpha",
        "provider": provider.pk,
        "slug": "alpha",
        "model_id": "fake/alpha",
        "enabled": "on",
        "approval": "approved",
        "context": 32768,
        "max_output": "",
        "input_price": "",
        "output_price": "",
        "max_tokens_field": "",
        "effort": "",
        "first_token_seconds": 120,
        "between_tokens_seconds": 60,
        "call_seconds": 600,
    }
    return given | values
