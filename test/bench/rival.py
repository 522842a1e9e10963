"""The rival at the same work: python rival.py json|parquet|duckdb|postgres TARGET, users of Okta page by page, as its
own documentation shows it. Prints the records it stored."""
import json
import sys

from posture import CCM, open_storage

kind, target = sys.argv[1:]
ccm = CCM("okta")
types = ccm.column_types("users")
rows = 0
if kind == "parquet":
    with open_storage("parquet", {"path": target}).write_stream("users", schema=types) as stream:
        for frame in ccm.collect_page("users"):
            rows += len(frame)
            stream.write(frame)
else:
    store = open_storage(kind, json.loads(target) if target.startswith("{") else {"path": target})
    for frame in ccm.collect_page("users"):
        rows += len(frame)
        store.write_page(frame, "users", schema=types, mode="truncate")
print(rows)
