"""Statements by hand, several of them in one way to the database and back.

The ORM takes half a millisecond, and a way to the database and back, for each statement. What happens while people wait
for the next word is a dozen of them at a time, so these few go together. They rely on parameters that are put in on
this side, as Django's cursors do: the server itself takes one statement with parameters at a time.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from django.db import connection
from django.db.models import AutoField, Model
from psycopg.types.json import Jsonb

M = TypeVar("M", bound=Model)

Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters."""


class Result(NamedTuple):
    """What a statement changed or found."""

    count: int
    rows: list[tuple[Any, ...]]


def execute(statements: Sequence[Statement]) -> list[Result]:
    """Carry them out in order. Outside a transaction they are one of their own."""
    if not statements:
        return []
    results = []
    with connection.cursor() as cursor:
        cursor.execute("; ".join(sql for sql, _ in statements), [each for _, given in statements for each in given])
        while True:
            results.append(Result(cursor.rowcount, cursor.fetchall() if cursor.description else []))
            if not cursor.nextset():
                return results


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
    given = [fields[name].get_db_prep_save(each[name], connection) for each in new for name in names]
    return (
        f"UPDATE {table} SET {columns} FROM (VALUES {values}) AS new ({', '.join(names)}) WHERE {same} AND {where}",  # noqa: S608  # own names
        [*given, *which],
    )


@cache
def _types(model: type[Model]) -> dict[str, str]:
    """The types of columns; without lengths, for a cast to varchar(10) would cut in silence."""
    return {field.column: str(field.db_type(connection)).partition("(")[0] for field in model._meta.concrete_fields}


def insert(rows: Sequence[Model], tail: str = "", **placeholders: str) -> Statement:
    """INSERT of unsaved rows of one model. `placeholders` are SQL for columns whose value is more than a parameter."""
    meta = type(rows[0])._meta
    # The database makes the keys that are numbers.
    fields = [field for field in meta.concrete_fields if not isinstance(field, AutoField)]
    given = [[field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields] for row in rows]
    # Short statements are taken apart once for all, and what is left out is NULL.
    used = [place for place in range(len(fields)) if any(values[place] is not None for values in given)]
    columns = ", ".join(fields[place].column for place in used)
    row = ", ".join(placeholders.get(fields[place].column, "%s") for place in used)
    values = ", ".join([f"({row})"] * len(rows))
    sql = f"INSERT INTO {meta.db_table} ({columns}) VALUES {values} {tail}"  # noqa: S608  # own names
    return sql, [each[place] for each in given for place in used]


def select(model: type[Model], tail: str, *given: Any) -> Statement:
    """SELECT of whole rows of a model; `tail` is all that comes after its table's name."""
    return f"SELECT {columns(model)} FROM {model._meta.db_table} {tail}", given  # noqa: S608  # own names


@cache
def columns(model: type[Model]) -> str:
    """The model's columns, in the order that `instances` takes them in."""
    table = model._meta.db_table
    return ", ".join(f"{table}.{field.column}" for field in model._meta.concrete_fields)


def instances(model: type[M], rows: Sequence[Sequence[Any]]) -> list[M]:
    """The rows that `select` found, as the ORM would give them."""
    names, converters = _loading(model)
    made = []
    for row in rows:
        values = list(row)
        for place, convert in converters:
            values[place] = convert(values[place], None, connection)
        made.append(model.from_db(connection.alias, names, values))
    return made


@cache
def _loading(model: type[Model]) -> tuple[list[str], list[tuple[int, Any]]]:
    fields = model._meta.concrete_fields
    converters = [(place, each) for place, field in enumerate(fields) for each in field.get_db_converters(connection)]
    return [field.attname for field in fields], converters
