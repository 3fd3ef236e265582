"""Structs to rows and back. A column has the field's name; what SQLite has no type for stands there as JSON."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import apsw
import msgspec
from msgspec import Struct

from naru.storage.records import (
    AccountRecord,
    AuditRecord,
    BudgetRecord,
    CodeRecord,
    CreditRecord,
    KeyRecord,
    LedgerEntry,
    ScopeRecord,
    StoredAnswer,
    to_json,
)

R = TypeVar("R", bound=Struct)
_PLAIN = (str, int, float, bytes, type(None))


class Table(Generic[R]):
    """A table of one kind of record."""

    def __init__(self, name: str, kind: type[R]) -> None:
        self.name = name
        self.kind = kind
        self.fields = kind.__struct_fields__
        self.columns = ", ".join(self.fields)
        self._json = [place for place, name in enumerate(self.fields) if name in _JSON_FIELDS]
        marks = ", ".join("?" * len(self.fields))
        self.insert_sql = f"INSERT INTO {name} ({self.columns}) VALUES ({marks})"
        self.select_sql = f"SELECT {self.columns} FROM {name}"

    def row(self, record: R) -> tuple[Any, ...]:
        values = list(msgspec.structs.astuple(record))
        for place in self._json:
            values[place] = _value(values[place])
        return tuple(values)

    def record(self, row: tuple[Any, ...]) -> R:
        return _convert(dict(zip(self.fields, row, strict=True)), self.kind)

    def insert(self, db: apsw.Connection, record: R) -> None:
        db.execute(self.insert_sql, self.row(record))

    def all(self, db: apsw.Connection, rest: str = "", bindings: tuple[Any, ...] = ()) -> list[R]:
        """`rest` is our own SQL; what comes from outside stands in `bindings`."""
        return [self.record(row) for row in db.execute(f"{self.select_sql} {rest}", bindings)]

    def one(self, db: apsw.Connection, rest: str, bindings: tuple[Any, ...]) -> R | None:
        return next(iter(self.all(db, rest, bindings)), None)

    def save(self, db: apsw.Connection, record: R, *fixed: str) -> bool:
        """Writes all but the `fixed` fields of the row with its id. False: there is none."""
        names = [name for name in self.fields if name not in fixed and name != "id"]
        values = [_value(getattr(record, name)) for name in names]
        sets = ", ".join(f"{name} = ?" for name in names)
        db.execute(f"UPDATE {self.name} SET {sets} WHERE id = ?", (*values, record.id))  # type: ignore[attr-defined]
        return db.changes() > 0


def _value(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    return "[]" if value == () else to_json(value)  # most of an entry's lists are empty


def _convert(fields: dict[str, Any], kind: type[R]) -> R:
    for name, value in fields.items():
        if isinstance(value, str) and value[:1] in ("[", "{") and name in _JSON_FIELDS:
            fields[name] = msgspec.json.decode(value)
    return msgspec.convert(fields, kind, strict=False, builtin_types=(bytes,))


#: The fields, of all tables, that hold JSON. A name or a note that looks like JSON is none.
_JSON_FIELDS = frozenset(
    {"models", "addresses", "limits", "metadata", "alerts", "tried", "scopes", "headers", "server_tools"}
)

KEYS = Table("key", KeyRecord)
ACCOUNTS = Table("account", AccountRecord)
BUDGETS = Table("budget", BudgetRecord)
SCOPES = Table("scope", ScopeRecord)
CREDITS = Table("credit", CreditRecord)
CODES = Table("code", CodeRecord)
ENTRIES = Table("ledger_entry", LedgerEntry)
ANSWERS = Table("answer", StoredAnswer)
AUDIT = Table("audit", AuditRecord)
