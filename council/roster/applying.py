"""One entry and its row: what it says of each key, what that changes, and whether the columns take it."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from council.roster import values
from council.roster.reading import Entry, Mistakes
from council.roster.values import FIELDS

Change = tuple[str, Any, Any]
"""A key of the file, what it was (None: nothing), and what it becomes."""


def whole(entry: Entry) -> dict[str, Any]:
    """All keys of an entry, with the defaults of those that it leaves out."""
    return {key: entry.values.get(key, values.default(entry.kind, key)) for key in FIELDS[entry.kind]}


def differing(kind: str, before: dict[str, Any] | None, after: dict[str, Any]) -> list[Change]:
    """The keys that differ; of a new row, all that is written of it."""
    if before is None:
        return [(key, None, value) for key, value in _flat(values.told(kind, after)).items() if key != "slug"]
    was, becomes = _flat(before), _flat(after)
    keys = dict.fromkeys([*becomes, *was])
    return [(key, was.get(key), becomes.get(key)) for key in keys if was.get(key) != becomes.get(key)]


def _flat(said: dict[str, Any]) -> dict[str, Any]:
    """With a key for each thing that is said of a seat."""
    seats = {
        f"seats.{seat['seat']}.{key}": value
        for seat in said.get("seats", ())
        for key, value in values.told("seats", seat).items()
        if key != "seat"
    }
    return {key: value for key, value in said.items() if key != "seats"} | seats


def put(row: Model, said: dict[str, Any], entry: Entry, mistakes: Mistakes) -> None:
    """Give a row what the file says, and see whether its columns take that."""
    for key, value in said.items():
        if values.is_column(entry.kind, key) or key == "provider":
            setattr(row, key, value)
    check(row, entry, mistakes)


def check(row: Model, entry: Entry, mistakes: Mistakes, key: str = "", seat: Entry | None = None) -> None:
    """Tell what the columns do not take: as a mistake in `key`, or in the key of each, of the entry or of its seat."""
    # An address has rules of its own, because a container's host has no dot. A stored key is looked at by `_key`.
    try:
        row.clean_fields(exclude={"base_url", "api_key", "provider", "council", "language_model"})
        wrong: dict[str, list[str]] = {}
    except ValidationError as error:
        wrong = error.message_dict
    for column in row._meta.concrete_fields:
        # Of a long text, and of an address, only forms know the limit.
        if column.name in {"base_url", "system_prompt"} and len(getattr(row, column.name)) > column.max_length:
            wrong[column.name] = [f"This is too long: {column.max_length:,} characters fit."]
    for name, words in wrong.items():
        choices = [value for value, _label in row._meta.get_field(name).flatchoices if value]
        what = f"This must be one of {', '.join(choices)}." if choices else " ".join(words)
        if seat:
            mistakes.add(what, entry, f"seats.{name}", seat.lines.get(name))
        else:
            mistakes.add(what, entry, key or name)


def save(row: Model, kind: str, *more: str) -> None:
    """What a file says and no more: a model's tokens are learnt meanwhile."""
    columns = [key for key in FIELDS[kind] if values.is_column(kind, key) or key == "provider"]
    row.save(update_fields=[*columns, *more] if row.pk else None)
