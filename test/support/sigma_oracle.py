"""Asks pySigma, by way of SQL, which events rules match: reads [{"rule", "events"}] and writes a list of booleans each,
or of what pySigma says against the rule."""

import json
import re
import sqlite3
import sys

from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection

FIELDS = {"a": "TEXT", "b": "TEXT", "c": "TEXT", "n": "NUMERIC"}


def database():
    base = sqlite3.connect(":memory:")
    base.create_function("REGEXP", 2, lambda pattern, text: text is not None and bool(re.search(pattern, str(text))))
    columns = ", ".join(f"{name} {kind}" for name, kind in FIELDS.items())
    base.execute(f"CREATE TABLE logs ({columns}, whole TEXT)")
    return base


def matched(base, case):
    backend = sqliteBackend(collate_nocase=True, fulltext_field="whole")
    try:
        (query,) = backend.convert(SigmaCollection.from_yaml(case["rule"]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    base.execute("DELETE FROM logs")
    for event in case["events"]:
        whole = "\n".join(str(value) for value in event.values())
        row = [event.get(name) for name in FIELDS]
        base.execute("INSERT INTO logs VALUES (?, ?, ?, ?, ?)", [*row, whole])
    where = query.split(" WHERE ", 1)[1]
    return [bool(held) for (held,) in base.execute(f"SELECT {where} FROM logs ORDER BY rowid")]


base = database()
json.dump([matched(base, case) for case in json.load(sys.stdin)], sys.stdout)
