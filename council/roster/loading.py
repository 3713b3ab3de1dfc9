"""A roster's entries -> rows, in one transaction, and what that changes.

An entry of the file says all of its row: a key that is left out is its default. Three things are the database's where
the file is silent: who may use a council (without `groups`), what was decided about a model (without `approval`), and
API keys, which no file holds. Rows that the file does not name are left alone. Deliberations carry their own snapshot
and are never touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection, transaction
from django.db.models import CharField, F, Model, Value
from django.db.models.functions import Cast, Concat

from council import rules
from council.core.aliases import letter
from council.models import Council, Fallback, LanguageModel, Provider, Seat
from council.roster import values
from council.roster.applying import Change, check, differing, put, save, whole
from council.roster.reading import Entry, Mistakes, read
from council.roster.values import CHAIRMAN, WORDS
from governance import audit
from governance.audit import Kind, Thing

KEY = "API key"
DECISION = ("approval", "approval_note", "provider", "model_id")
"""Of a model: what is decided, why, and about what. Whoever loads a file that changes one of these has decided."""
FALLBACKS = {"fallbacks": Seat.Role.MEMBER, "chairman_fallbacks": Seat.Role.CHAIRMAN}


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that the file changes, or makes."""

    what: str
    new: bool
    changes: list[Change]


@dataclass(slots=True)
class Loaded:
    """What a file changes, which rows are as it says, and which it does not name."""

    differences: list[Difference] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, slug: str, changes: list[Change], *, new: bool = False) -> None:
        """A row was compared with what the file says of it."""
        if changes:
            self.differences.append(Difference(f"{WORDS[kind]} {slug}", new, changes))
        else:
            self.same.append(f"{WORDS[kind]} {slug}")


def load(content: bytes, name: str, environ: Mapping[str, str], *, write: bool = True) -> Loaded:
    """Make the roster what the file says. Without `write` everything is tried, and nothing kept.

    `name` stands before each mistake; `environ` has the API keys. Raises Wrong, and then nothing is changed.
    """
    mistakes = Mistakes(name)
    entries = read(content, mistakes)
    loaded = Loaded()
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Where several machines load at once, each but the first finds all done.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('roster'))")
        providers = _providers(entries["providers"], loaded, mistakes, environ)
        models = _models(entries["models"], providers, loaded, mistakes)
        _councils(entries["councils"], models, loaded, mistakes)
        for each in loaded.differences:
            kind = Kind.ADDED if each.new else Kind.CHANGED
            changes = {key: [before, after] for key, before, after in each.changes}
            audit.record(kind, None, Thing("roster", each.what), changes=changes, by="shell")
        transaction.set_rollback(not write)
    return loaded


def _providers(
    entries: list[Entry], loaded: Loaded, mistakes: Mistakes, environ: Mapping[str, str]
) -> dict[str, Provider]:
    rows = {row.slug: row for row in Provider.objects.order_by("slug")}
    _leave("providers", rows, entries, loaded)
    changed = []
    for entry in entries:
        row = rows.setdefault(entry.slug, Provider())
        before = values.of_provider(row) if row.pk else None
        after = whole(entry)
        try:
            after["base_url"] = rules.address(after["base_url"])
        except ValidationError as error:
            mistakes.add(error.messages[0], entry, "base_url")
            after["base_url"] = row.base_url
        else:
            try:
                rules.in_reach(after["base_url"], private=after["private_address"])
            except ValidationError:
                wrong = "This is on this machine or in a private network. Say so: private_address = true"
                mistakes.add(wrong, entry, "base_url")
            if not after["base_url"] and after["kind"] != Provider.Kind.PRACTICE:
                mistakes.add("A provider needs an address. Only the practice model has none.", entry, "base_url")
        key = _key(row, after, entry, environ, loaded, mistakes)
        changes = [*differing("providers", before, after), *key]
        put(row, after, entry, mistakes)
        loaded.add("providers", entry.slug, changes, new=before is None)
        if changes:
            changed.append((row, ["api_key"] if key else []))
    mistakes.stop()
    for row, more in changed:
        save(row, "providers", *more)
    return rows


def _key(
    row: Provider, after: dict[str, Any], entry: Entry, environ: Mapping[str, str], loaded: Loaded, mistakes: Mistakes
) -> list[Change]:
    """Take the key from the environment, where the file names its variable. Returns the change, without the key."""
    variable = after["api_key_env"]
    try:
        stored: str | None = row.api_key
    except ImproperlyConfigured:
        stored = None  # there is one that cannot be read any more
    if variable and (given := environ.get(variable, "")):
        try:
            rules.key(given)
        except ValidationError as error:
            mistakes.add(f"{variable}: {error.messages[0]}", entry, "api_key_env")
        if given == stored:
            return []
        row.api_key = given
        return [(KEY, None if stored == "" else "another", f"from {variable}")]
    if stored == "":
        if variable:
            mistakes.add(f"The environment has no {variable}. Set it to the provider's key.", entry, "api_key_env")
    elif rules.host(after["base_url"]) != rules.host(row.base_url):
        wrong = (
            "This is another host than before. Name a variable in api_key_env and set it to the key, so that it goes "
            "there knowingly."
        )
        mistakes.add(wrong, entry, "base_url")
    elif variable:
        loaded.notes.append(f"The environment has no {variable}: {entry.slug} keeps the key that is stored.")
    return []


def _models(
    entries: list[Entry], providers: dict[str, Provider], loaded: Loaded, mistakes: Mistakes
) -> dict[str, LanguageModel]:
    rows = {row.slug: row for row in LanguageModel.objects.select_related("provider").order_by("slug")}
    for row in rows.values():
        row.provider = providers[row.provider.slug]  # as this file has left it
    _leave("models", rows, entries, loaded)
    said = {entry.slug for entry in entries}
    owners = {(row.provider.slug, row.model_id): slug for slug, row in rows.items() if slug not in said}
    changed = []
    for entry in entries:
        row = rows.setdefault(entry.slug, LanguageModel())
        before = values.of_model(row) if row.pk else None
        after = _model(entry, before)
        if after["provider"] not in providers:
            mistakes.add(_unknown("provider", after["provider"]), entry, "provider")
            continue
        owner = owners.setdefault((after["provider"], after["model_id"]), entry.slug)
        if owner != entry.slug:
            mistakes.add(f"{after['provider']} has this model already, as “{owner}”.", entry, "model_id")
        put(row, {**after, "provider": providers[after["provider"]]}, entry, mistakes)
        changes = differing("models", before, after)
        if before is None or any(before[key] != after[key] for key in DECISION):
            row.decide(after["approval"])
        loaded.add("models", entry.slug, changes, new=before is None)
        if changes:
            changed.append(row)
    mistakes.stop()
    # Two that change places would for a moment be the same model twice.
    moving = LanguageModel.objects.filter(pk__in=[row.pk for row in changed])
    moving.update(model_id=Concat(Value("moving "), Cast(F("pk"), CharField())))
    for row in changed:
        save(row, "models", "decided", "decided_by")
    return rows


def _model(entry: Entry, before: dict[str, Any] | None) -> dict[str, Any]:
    """What the file says of a model. What was decided about it stays where the file has no word on that."""
    said = whole(entry)
    if before and "approval" not in entry.values:
        said["approval"] = before["approval"]
        said["approval_note"] = entry.values.get("approval_note", before["approval_note"])
    return said


def _councils(entries: list[Entry], models: dict[str, LanguageModel], loaded: Loaded, mistakes: Mistakes) -> None:
    rows = {row.slug: row for row in Council.objects.order_by("slug")}
    _leave("councils", rows, entries, loaded)
    before = {slug: values.of_council(row) for slug, row in rows.items()}
    after = {entry.slug: _council(entry, before.get(entry.slug), models, mistakes) for entry in entries}
    default = next((slug for slug, said in after.items() if said["default"]), None)
    for entry in entries:
        row, said = rows.setdefault(entry.slug, Council()), after[entry.slug]
        if said["default"] and entry.slug != default:
            mistakes.add(f"There is one default council, and “{default}” is it already.", entry, "default")
        put(row, said, entry, mistakes)
        loaded.add(
            "councils", entry.slug, differing("councils", before.get(entry.slug), said), new=entry.slug not in before
        )
    mistakes.stop()
    if default is not None:
        for slug, was in before.items():
            if was["default"] and slug not in after:
                loaded.add("councils", slug, [("default", True, False)])
                loaded.left.remove(f"council {slug}")
        Council.objects.filter(default=True).exclude(slug=default).update(default=False)
    for slug, said in after.items():
        if said != before.get(slug):
            _save_council(rows[slug], before.get(slug, {}), said, models)


def _council(
    entry: Entry, before: dict[str, Any] | None, models: dict[str, LanguageModel], mistakes: Mistakes
) -> dict[str, Any]:
    """What the file says of a council, once it keeps to the rules."""
    said = whole(entry)
    if before and "groups" not in entry.values:
        said["groups"] = before["groups"]
    said["groups"] = sorted(set(said["groups"]))
    for name in said["groups"]:
        check(Group(name=name), entry, mistakes, key="groups")
    said["seats"] = _seats(entry, said, mistakes)
    for key in ("members", "chairman", *FALLBACKS):
        for slug in dict.fromkeys(filter(None, [said[key]] if key == "chairman" else said[key])):
            if slug not in models:
                mistakes.add(_unknown("model", slug), entry, key)
    for key in FALLBACKS:
        if len(set(said[key])) < len(said[key]):
            mistakes.add("A model stands here twice.", entry, key)
    if said["default"] and not said["enabled"]:
        mistakes.add("The default council must be enabled.", entry, "default")
    if said["enabled"] and models.keys() >= {*said["members"], *filter(None, [said["chairman"]])}:
        chairmen = [models[said["chairman"]]] if said["chairman"] else []
        for key, what in rules.missing([models[slug] for slug in said["members"]], chairmen).items():
            mistakes.add(f"{what} To keep it as it is, set enabled = false.", entry, key)
    return said


def _seats(entry: Entry, said: dict[str, Any], mistakes: Mistakes) -> list[dict[str, Any]]:
    """What the file says of seats, in their order; those of which it says nothing are left out."""
    names = [letter(place) for place in range(len(said["members"]))] + ([CHAIRMAN] if said["chairman"] else [])
    found: dict[str, dict[str, Any]] = {}
    for seat in said["seats"]:
        each = whole(seat)
        if each["seat"] not in names:
            what = f"There is no seat “{each['seat']}”. This council has {', '.join(names) or 'none'}."
            mistakes.add(what, entry, "seats.seat", seat.lines["seat"])
        elif each["seat"] in found:
            mistakes.add(f"Seat “{each['seat']}” is there already.", entry, "seats.seat", seat.lines["seat"])
        found[each["seat"]] = each
        row = Seat(**{key: value for key, value in each.items() if key != "seat"})
        check(row, entry, mistakes, seat=seat)
    return [found[name] for name in names if name in found and len(values.told("seats", found[name])) > 1]


def _save_council(row: Council, before: dict[str, Any], said: dict[str, Any], models: dict[str, LanguageModel]) -> None:
    save(row, "councils")
    if said["groups"] != before.get("groups"):
        row.groups.set([Group.objects.get_or_create(name=name)[0] for name in said["groups"]])
    if any(said[key] != before.get(key, []) for key in FALLBACKS):
        row.fallbacks.all().delete()
        Fallback.objects.bulk_create(
            Fallback(council=row, role=role, position=place, language_model=models[slug])
            for key, role in FALLBACKS.items()
            for place, slug in enumerate(said[key])
        )
    if all(said[key] == before.get(key) for key in ("members", "chairman", "seats")):
        return
    row.seats.all().delete()
    more = {each["seat"]: {key: value for key, value in each.items() if key != "seat"} for each in said["seats"]}
    line_up = [(Seat.Role.MEMBER, letter(place), slug) for place, slug in enumerate(said["members"])]
    if said["chairman"]:
        line_up.append((Seat.Role.CHAIRMAN, CHAIRMAN, said["chairman"]))
    Seat.objects.bulk_create(
        Seat(council=row, role=role, position=place, language_model=models[slug], **more.get(name, {}))
        for place, (role, name, slug) in enumerate(line_up)
    )


def _leave(kind: str, rows: Mapping[str, Model], entries: list[Entry], loaded: Loaded) -> None:
    said = {entry.slug for entry in entries}
    loaded.left += [f"{WORDS[kind]} {slug}" for slug in rows if slug not in said]


def _unknown(word: str, slug: str) -> str:
    return f"There is no {word} “{slug}”, neither in this file nor in the database."
