"""A roster's file, for tests: a text that loads, what the commands say of it, and what is in the database then."""

from io import StringIO

from django.contrib.auth.models import Group
from django.core.management import call_command

from council.models import Council, LanguageModel, Provider, Seat
from council.roster import values

ROSTER = """\
# Ours.
[[providers]]
slug = "acme"
name = "Acme"
kind = "compatible"
base_url = "https://models.acme.example/v1"
api_key_env = "ACME_KEY"

[[models]]
slug = "big"
provider = "acme"
model_id = "acme/big"
name = "Big"
input_price = 1_250_000
output_price = 10_000_000
context = 400_000
max_output = 32_000
enabled = true

[[models]]
slug = "small"
provider = "acme"
model_id = "acme/small"
name = "Small"

[[councils]]
slug = "ours"
name = "Our council"
members = ["big", "small"]
chairman = "big"
default = true
"""
SEATS = """
[[councils.seats]]
seat = "B"
name = "The careful one"
temperature = 0.5
system_prompt = \"\"\"
You doubt.
Say "why".
\"\"\"

[[councils.seats]]
seat = "chairman"
system_prompt = "You sum up."
"""
KEY = "sk-from-the-environment-0123"


def dump() -> str:
    """What the command writes."""
    output = StringIO()
    call_command("roster", "dump", stdout=output)
    return output.getvalue()


def everything() -> list:
    """All rows of the roster, keys and seats too."""
    found = [list(model.objects.order_by("pk").values()) for model in (Provider, LanguageModel, Seat, Group)]
    return [*found, [(row.pk, values.of_council(row)) for row in Council.objects.order_by("pk")]]
