"""What a file says of a provider, a model, a council and a seat: the keys of each, and rows in those terms.

A row in these terms (a dict, the file's keys in their order) is what is written, and what a file is compared with.
"""

from typing import Any

from django.db.models import Model

from council.core.aliases import letter
from council.models import Council, LanguageModel, Provider, Seat

CHAIRMAN = "chairman"

# The keys of each kind, in the order in which they are written. Those of NAMED are always written where there is a
# value, the others where it is not the default.
FIELDS: dict[str, tuple[str, ...]] = {
    "providers": ("slug", "name", "kind", "base_url", "api_key_env", "private_address", "enabled", "concurrency"),
    "models": (
        "slug",
        "provider",
        "model_id",
        "name",
        "input_price",
        "output_price",
        "context",
        "max_output",
        "enabled",
        "approval",
        "approval_note",
        "temperature",
        "json_schema",
        "usage_in_stream",
        "images",
        "max_tokens_field",
        "effort",
        "first_token_seconds",
        "between_tokens_seconds",
        "call_seconds",
    ),
    "councils": (
        "slug",
        "name",
        "members",
        "chairman",
        "default",
        "groups",
        "description",
        "enabled",
        "answer_tokens",
        "review_tokens",
        "synthesis_tokens",
        "fallbacks",
        "chairman_fallbacks",
        "quorum",
        "grace_seconds",
        "stage_seconds",
        "seats",
    ),
    "seats": ("seat", "name", "system_prompt", "temperature"),
}
NAMED = {
    "providers": {"slug", "name", "kind"},
    "models": {
        "slug",
        "provider",
        "model_id",
        "name",
        "input_price",
        "output_price",
        "context",
        "max_output",
        "enabled",
        "approval",
    },
    "councils": {"slug", "name", "members", "default", "groups"},
    "seats": {"seat"},
}
MODELS: dict[str, type[Model]] = {
    "providers": Provider,
    "models": LanguageModel,
    "councils": Council,
    "seats": Seat,
}
WORDS = {"providers": "provider", "models": "model", "councils": "council", "seats": "seat"}

# What is no column of its own: the type of its value in a file, and what it is where it is left out.
_OTHERS: dict[tuple[str, str], tuple[type, Any]] = {
    ("models", "provider"): (str, None),
    ("councils", "members"): (list, []),
    ("councils", "chairman"): (str, ""),
    ("councils", "groups"): (list, []),
    ("councils", "fallbacks"): (list, []),
    ("councils", "chairman_fallbacks"): (list, []),
    ("councils", "seats"): (list, []),
    ("seats", "seat"): (str, None),
}
# Whoever loads a file has decided about what is new in it.
_OF_FILES = {("models", "approval"): LanguageModel.Approval.APPROVED.value}
_TYPES = {
    "BooleanField": bool,
    "FloatField": float,
    "PositiveBigIntegerField": int,
    "PositiveIntegerField": int,
    "PositiveSmallIntegerField": int,
}


def is_column(kind: str, key: str) -> bool:
    """Whether a value of the file is stored as it stands there."""
    return (kind, key) not in _OTHERS


def type_of(kind: str, key: str) -> type:
    """What a value of this key is in a file."""
    if is_column(kind, key):
        return _TYPES.get(MODELS[kind]._meta.get_field(key).get_internal_type(), str)
    return _OTHERS[kind, key][0]


def required(kind: str, key: str) -> bool:
    """Whether a file must say it."""
    if is_column(kind, key):
        column = MODELS[kind]._meta.get_field(key)
        return not (column.has_default() or column.blank or column.null)
    return _OTHERS[kind, key][1] is None


def default(kind: str, key: str) -> Any:
    """What a key that is left out stands for."""
    if (kind, key) in _OF_FILES:
        return _OF_FILES[kind, key]
    return MODELS[kind]._meta.get_field(key).get_default() if is_column(kind, key) else _OTHERS[kind, key][1]


def of_provider(row: Provider) -> dict[str, Any]:
    """A provider in the file's terms, without its key."""
    return {key: getattr(row, key) for key in FIELDS["providers"]}


def of_model(row: LanguageModel) -> dict[str, Any]:
    """A model in the file's terms."""
    return {key: row.provider.slug if key == "provider" else getattr(row, key) for key in FIELDS["models"]}


def of_council(row: Council) -> dict[str, Any]:
    """A council in the file's terms, its seats read from the database."""
    seats = list(row.seats.select_related("language_model"))
    members = [seat for seat in seats if seat.role == Seat.Role.MEMBER]
    chairmen = [seat for seat in seats if seat.role == Seat.Role.CHAIRMAN]
    said = [_of_seat(seat, letter(place)) for place, seat in enumerate(members)]
    said += [_of_seat(seat, CHAIRMAN) for seat in chairmen]
    fallbacks = list(row.fallbacks.select_related("language_model"))
    values = {
        "members": [seat.language_model.slug for seat in members],
        "chairman": chairmen[0].language_model.slug if chairmen else "",
        "groups": sorted(row.groups.values_list("name", flat=True)),
        "fallbacks": [each.language_model.slug for each in fallbacks if each.role == Seat.Role.MEMBER],
        "chairman_fallbacks": [each.language_model.slug for each in fallbacks if each.role == Seat.Role.CHAIRMAN],
        "seats": [seat for seat in said if len(told("seats", seat)) > 1],
    }
    return {key: values[key] if key in values else getattr(row, key) for key in FIELDS["councils"]}


def _of_seat(row: Seat, name: str) -> dict[str, Any]:
    return {
        "seat": name,
        "name": row.name,
        # A browser sends other line ends than a file has; to a model they are the same.
        "system_prompt": row.system_prompt.replace("\r\n", "\n"),
        "temperature": row.temperature,
    }


def told(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """Of values in the file's terms those that are written: what is named, and what is not as it would be without."""
    return {
        key: value
        for key, value in values.items()
        if value is not None and (key in NAMED[kind] or value != default(kind, key))
    }
