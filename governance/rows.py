"""Statements by hand, several of them in one way to the database and back.

The ORM takes half a millisecond, and a way to the database and back, for each statement. What happens while people wait
for the next word is a dozen of them at a time, so these few go together. They are prepared in SQL and carried out with
parameters that are put in on this side, as Django's cursors do: the protocol's own preparing takes one at a time.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DEFAULT_DB_ALIAS, DataError, connection, connections
from django.db.models import AutoField, Model, QuerySet
from psycopg.errors import DivisionByZero
from psycopg.types.json import Jsonb

M = TypeVar("M", bound=Model)

Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters. The same SQL has parameters of the same types, or NULL."""

MOST_PREPARED = 200  # statements in a connection; there are some dozens

_numbers = itertools.count(1)
_of_connections: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
"""The names of what is prepared in each connection, by SQL."""

_TYPES = {bool: "boolean", int: "bigint", float: "float8", datetime: "timestamptz", UUID: "uuid", Jsonb: "jsonb"}
_PLACE = re.compile("%[s%]")


class Result(NamedTuple):
    """What a statement changed or found."""

    count: int  # type: ignore[assignment]  # in place of the tuple's method
    rows: list[tuple[Any, ...]]


class NotThere(Exception):
    """A statement that had to find a row found none."""


def execute(statements: Sequence[Statement]) -> list[Result]:
    """Carry them out in order. Outside a transaction they are one of their own. Raises NotThere: see `required`.

    The first time in a connection they are prepared there: to take them apart and to plan them takes the database
    longer than to carry them out.
    """
    if not statements:
        return []
    results = []
    with connection.cursor() as cursor:
        prepared, parts = _of_connections.setdefault(cursor.connection, {}), []
        if len(prepared) > MOST_PREPARED:
            cursor.execute("DEALLOCATE ALL")
            prepared.clear()
        new: dict[str, str] = {}
        for sql, given in statements:
            name = prepared.get(sql) or new.get(sql)
            if name is None:
                # Never the same again: what fails may have been prepared or not.
                name = new[sql] = f"own_{next(_numbers)}"
                parts.append(f"PREPARE {name} {_types_of(given)} AS {_numbered(sql)}")
            parts.append(cursor.mogrify(f"EXECUTE {name} {_places(len(given))}", given))
        try:
            cursor.execute("; ".join(parts))
        except DataError as error:
            if isinstance(error.__cause__, DivisionByZero):
                raise NotThere from error
            raise
        prepared |= new
        while True:
            if cursor.statusmessage != "PREPARE":
                results.append(Result(cursor.rowcount, cursor.fetchall() if cursor.description else []))
            if not cursor.nextset():
                return results


def _types_of(values: Sequence[Any]) -> str:
    """The types of a statement's parameters; where a value does not say, the place where it stands does."""
    return f"({', '.join(_TYPES.get(type(each), 'unknown') for each in values)})" if values else ""


@cache
def _places(count: int) -> str:
    return f"({', '.join(['%s'] * count)})" if count else ""


def _numbered(sql: str) -> str:
    numbers = itertools.count(1)
    return _PLACE.sub(lambda found: f"${next(numbers)}" if found[0] == "%s" else "%", sql)


def required(sql: str, *given: Any) -> Statement:
    """A statement that gives rows, and must give one; else nothing of what is executed with it is done.

    The division by zero ends the transaction where it stands, without another way to the database and back.
    """
    return f"WITH required AS ({sql}) SELECT 1 / count(*) FROM required", given  # noqa: S608  # own SQL


def update(table: str, values: Mapping[str, Any], where: str, *which: Any) -> Statement:
    """UPDATE with values by column."""
    columns = ", ".join(f"{name} = %s" for name in values)
    new = [Jsonb(value) if isinstance(value, list | tuple) else value for value in values.values()]
    return f"UPDATE {table} SET {columns} WHERE {where}", [*new, *which]  # noqa: S608  # own names


def update_each(
    model: type[Model], key: Sequence[str], new: Sequence[Mapping[str, Any]], where: str, *which: Any
) -> Statement:
    """UPDATE of many rows, each with values of its own by column; `key` are the columns that tell the rows apart."""
    types, table, names = _types(model), model._meta.db_table, list(new[0])
    fields = {field.column: field for field in model._meta.concrete_fields}
    # The first row says of which types the columns are.
    typed = ", ".join(f"%s::{types[name]}" for name in names)
    values = ", ".join([f"({typed})"] + [f"({', '.join(['%s'] * len(names))})"] * (len(new) - 1))
    columns = ", ".join(f"{name} = new.{name}" for name in names if name not in key)
    same = " AND ".join(f"{table}.{name} = new.{name}" for name in key)
    database = connections[DEFAULT_DB_ALIAS]
    given = [fields[name].get_db_prep_save(each[name], database) for each in new for name in names]
    return (
        f"UPDATE {table} SET {columns} FROM (VALUES {values}) AS new ({', '.join(names)}) WHERE {same} AND {where}",  # noqa: S608  # own names
        [*given, *which],
    )


@cache
def _types(model: type[Model]) -> dict[str, str]:
    """The types of columns; without lengths, for a cast to varchar(10) would cut in silence."""
    return {str(each.column): str(each.db_type(connection)).partition("(")[0] for each in model._meta.concrete_fields}


def insert(rows: Sequence[Model], tail: str = "") -> Statement:
    """INSERT of unsaved rows of one model."""
    meta = type(rows[0])._meta
    # The database makes the keys that are numbers.
    fields = [field for field in meta.concrete_fields if not isinstance(field, AutoField)]
    database = connections[DEFAULT_DB_ALIAS]  # once: each look at `connection` is a look at the thread's
    given = [[field.get_db_prep_save(field.pre_save(row, add=True), database) for field in fields] for row in rows]
    # Short statements are taken apart once for all, and what is left out is NULL.
    used = [place for place in range(len(fields)) if any(values[place] is not None for values in given)]
    columns = ", ".join(str(fields[place].column) for place in used)
    values = ", ".join([f"({', '.join(['%s'] * len(used))})"] * len(rows))
    sql = f"INSERT INTO {meta.db_table} ({columns}) VALUES {values} {tail}"  # noqa: S608  # own names
    return sql, [each[place] for each in given for place in used]


def select(model: type[Model], tail: str, *given: Any) -> Statement:
    """SELECT of whole rows of a model; `tail` is all that comes after its table's name."""
    return f"SELECT {columns(model)} FROM {model._meta.db_table} {tail}", given  # noqa: S608  # own names


def of(queryset: QuerySet[M]) -> Statement:
    """The SELECT of a queryset of whole rows, as the ORM would say it, to be said again and again."""
    sql, given = queryset.query.sql_with_params()
    return sql, given


def prepared(make: Callable[..., QuerySet[M]], *marks: Any) -> Callable[..., Statement]:
    """The SELECT of a queryset that is put together once: `make` gets marks, and each call puts values in their place.

    To put it together takes the ORM longer than the database needs for the answer.
    """

    @cache
    def made() -> Statement:
        return of(make(*marks))

    def statement(*values: Any) -> Statement:
        sql, given = made()
        value_of = dict(zip(marks, values, strict=True))
        return sql, [value_of.get(each, each) for each in given]

    return statement


@cache
def columns(model: type[Model]) -> str:
    """The model's columns, in the order that `instances` takes them in."""
    table = model._meta.db_table
    return ", ".join(f"{table}.{field.column}" for field in model._meta.concrete_fields)


def instances(model: type[M], rows: Sequence[Sequence[Any]]) -> list[M]:
    """The rows that `select` found, as the ORM would give them."""
    names, converters = _loading(model)
    database = connections[DEFAULT_DB_ALIAS]
    made = []
    for row in rows:
        values = list(row)
        for place, convert in converters:
            values[place] = convert(values[place], None, database)
        made.append(model.from_db(DEFAULT_DB_ALIAS, names, values))
    return made


@cache
def _loading(model: type[Model]) -> tuple[list[str], list[tuple[int, Any]]]:
    fields = model._meta.concrete_fields
    converters = [(place, each) for place, field in enumerate(fields) for each in field.get_db_converters(connection)]
    return [field.attname for field in fields], converters
