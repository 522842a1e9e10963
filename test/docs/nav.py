"""Adds to the site's navigation what mkdocs.yml does not list: a page a collector, a page a store, and new pages."""
from pathlib import Path


def on_config(config):
    docs = Path(config.docs_dir)
    listed = set(_paths(config.nav))
    new = sorted(path.name for path in docs.glob("*.md") if path.name not in listed)
    for title, folder in (("Collectors", "collectors"), ("Stores", "stores")):
        pages = sorted(docs.glob(f"{folder}/*.md"))
        config.nav.append({f"{title}, one by one": [{path.stem: f"{folder}/{path.name}"} for path in pages]})
    if new:
        config.nav.append({"More": new})
    return config


def _paths(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [value] if isinstance(value, str) else _paths(value)
