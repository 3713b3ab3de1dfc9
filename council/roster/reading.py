"""A roster's text -> its entries, each value with its line.

The standard library's parser reads all of it, and tells no lines. So it reads it twice: as a whole, for what is said;
and statement by statement, for where. A statement is the shortest run of lines that is TOML by itself, because none
that is cut short (an array, a text of several lines) is.

Left to `loading`: what the values mean, and what is in the database.
"""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from council.core.errors import CouncilError
from council.roster import values
from council.roster.values import FIELDS, WORDS

Path = tuple[str | int, ...]

_KINDS = ("providers", "models", "councils")
_MOST = 10**9  # far beyond any number with a point that a roster has, and no trouble to convert
_TYPE_WORDS = {str: "a text in quotes", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


class Wrong(CouncilError):
    """The file cannot be loaded; one line for each mistake, with its place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A table of the file. `values` has each key it gives; `lines` the line of each, and its own under ""."""

    kind: str
    values: dict[str, Any]
    lines: dict[str, int]

    @property
    def slug(self) -> str:
        """The name that the file gives it, if it gives one."""
        slug = self.values.get("slug", "")
        return slug if isinstance(slug, str) else ""


class Mistakes:
    """What is wrong with one file, collected so that all of it is said at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: list[tuple[int, str]] = []

    def add(self, what: str, entry: Entry, key: str = "", line: int | None = None) -> None:
        """Something is wrong with a key of an entry, or with the entry."""
        where = f"{WORDS[entry.kind]} “{entry.slug}”" if entry.slug else f"{WORDS[entry.kind]} without a slug"
        self.add_at(
            line or entry.lines.get(key) or entry.lines[""], f"{where}, {key}: {what}" if key else f"{where}: {what}"
        )

    def add_at(self, line: int, what: str) -> None:
        """Something is wrong on a line."""
        self._found.append((line, what))

    def stop(self) -> None:
        """Raises Wrong if anything is."""
        if self._found:
            raise Wrong("\n".join(f"{self._name}:{line}: {what}" for line, what in sorted(self._found)))


def read(content: bytes, mistakes: Mistakes) -> dict[str, list[Entry]]:
    """The entries of each kind, in the file's order; types and keys are right. Raises Wrong."""
    text = _decoded(content, mistakes)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        mistakes.add_at(
            int(line[1]) if line else text.count("\n") + 1, f"This is not TOML: {error or 'nested too deep'}."
        )
        mistakes.stop()
        raise
    lines = _lines(text)
    entries: dict[str, list[Entry]] = {kind: [] for kind in _KINDS}
    for kind, tables in data.items():
        if kind not in _KINDS:
            mistakes.add_at(lines.get((kind,), 1), f"{kind}: unknown. A roster has {_listed(_KINDS)}.")
        elif not _is_tables(tables):
            mistakes.add_at(lines.get((kind,), 1), f"{kind}: each is written below a line [[{kind}]].")
        else:
            entries[kind] = [_entry(kind, (kind, place), table, lines) for place, table in enumerate(tables)]
    for entry in (each for kind in _KINDS for each in entries[kind]):
        _check(entry, mistakes)
    for kind in _KINDS:
        _check_once(entries[kind], mistakes)
    mistakes.stop()
    return entries


def _decoded(content: bytes, mistakes: Mistakes) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        mistakes.add_at(content.count(b"\n", 0, error.start) + 1, "This is not UTF-8.")
        mistakes.stop()
        raise


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _entry(kind: str, path: Path, table: dict[str, Any], lines: dict[Path, int]) -> Entry:
    own = _line(path, lines)
    found = dict(table)
    if kind == "councils" and _is_tables(found.get("seats")):
        found["seats"] = [
            _entry("seats", (*path, "seats", place), seat, lines) for place, seat in enumerate(found["seats"])
        ]
    return Entry(kind, found, {"": own, **{key: _line((*path, key), lines, own) for key in table}})


def _line(path: Path, lines: dict[Path, int], otherwise: int = 1) -> int:
    """Where this begins; of what stands in a line with others, where those begin."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, otherwise)


def _lines(text: str) -> dict[Path, int]:
    """The line, from 1, at which each table and each of its keys begins."""
    found: dict[Path, int] = {}
    seen: Counter[Path] = Counter()
    table: Path = ()
    for line, source, statement in _statements(text):
        names = _names(statement)
        if not source.lstrip().startswith("["):
            if names:
                found[*table, names[0]] = line
            continue
        table = ()
        for place, name in enumerate(names, 1):
            table = (*table, name)
            if place == len(names) and source.lstrip().startswith("[["):
                seen[table] += 1
            if table in seen:
                table = (*table, seen[table] - 1)
            found.setdefault(table, line)
            found.setdefault(table[:-1], line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each line or run of lines that is TOML by itself: its first line, its source and what it says."""
    begin, source = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        source = f"{source}\n{line}" if source else line
        try:
            statement = tomllib.loads(source)
        except ValueError:
            continue
        yield begin, source, statement
        begin, source = number + 1, ""


def _names(statement: dict[str, Any]) -> list[str]:
    """The names of a header, or of a key, from the outside in."""
    names = []
    found: Any = statement
    while isinstance(found, dict) and found:
        names.append(next(iter(found)))
        found = found[names[-1]]
    return names


def _check(entry: Entry, mistakes: Mistakes) -> None:
    known = FIELDS[entry.kind]
    for key, value in entry.values.items():
        if key not in known:
            mistakes.add(f"unknown. A {WORDS[entry.kind]} has {_listed(known)}.", entry, key)
        elif wrong := _wrong(value, values.type_of(entry.kind, key), seats=key == "seats"):
            mistakes.add(wrong, entry, key)
        elif key == "seats":
            for seat in value:
                _check_seat(seat, entry, mistakes)
    for key in known:
        if values.required(entry.kind, key) and key not in entry.values:
            mistakes.add("missing.", entry, key)


def _check_seat(seat: Entry, council: Entry, mistakes: Mistakes) -> None:
    """Mistakes of a seat are told as its council's, because that has the slug."""
    for key, value in seat.values.items():
        if key not in FIELDS["seats"]:
            mistakes.add(f"unknown. A seat has {_listed(FIELDS['seats'])}.", council, f"seats.{key}", seat.lines[key])
        elif wrong := _wrong(value, values.type_of("seats", key)):
            mistakes.add(wrong, council, f"seats.{key}", seat.lines[key])
    if "seat" not in seat.values:
        mistakes.add("missing.", council, "seats.seat", seat.lines[""])


def _wrong(value: object, wanted: type, *, seats: bool = False) -> str:
    """What is wrong with a value of this type, or nothing."""
    if seats:
        tables = isinstance(value, list) and all(isinstance(each, Entry) for each in value)
        return "" if tables else "each is written below a line [[councils.seats]]."
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return "" if abs(value) < _MOST else "This must be a smaller number."
    if type(value) is not wanted:
        return f"This must be {_TYPE_WORDS[wanted]}."
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        return "This must be a list of texts in quotes."
    if isinstance(value, float) and not math.isfinite(value):
        return "This must be a number."
    if "\x00" in "".join(value if isinstance(value, list) else [value] if isinstance(value, str) else []):
        return "A NUL character cannot be stored."
    return ""


def _check_once(entries: list[Entry], mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for entry in entries:
        line = entry.lines.get("slug", entry.lines[""])
        if entry.slug in first:
            mistakes.add(f"is there already, on line {first[entry.slug]}.", entry, "slug")
        elif entry.slug:
            first[entry.slug] = line
