"""The feed's schemas as one function that says what is wrong with a message's shape. Shell.

Needs jsonschema-rs, which nothing else of the gateway does: it is imported where a stream is checked. (It judges a
birth of 200 points in 2 ms; in Python that takes 100.)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from jsonschema_rs import Draft202012Validator, Registry

_SENTENCES = 3  # of one message


class Schemas:
    """protocols/feeds/schema, read once."""

    def __init__(self) -> None:
        folder = resources.files("protocols") / "feeds" / "schema"
        self._schemas = {file.name: json.loads(file.read_text("utf-8")) for file in folder.iterdir()}
        registry = Registry(list(self._schemas.items()))
        self._validators = {
            name.removesuffix(".json"): Draft202012Validator(schema, registry=registry)
            for name, schema in self._schemas.items()
        }

    def violations(self, kind: str, payload: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with a message of this kind, the first few: where, what, and what the schema says about it."""
        validator = self._validators[kind]
        if validator.is_valid(payload):
            return
        for _count, error in zip(range(_SENTENCES), validator.iter_errors(payload), strict=False):
            where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
            said = self._description(f"{kind}.json", error.evaluation_path[:-1])
            yield f"${where}: {error.message}" + (f" ({said})" if said else "")

    def _description(self, document: str, path: Sequence[str | int]) -> str | None:
        """Of the schema that this path, through references, leads to."""
        at: Any = self._schemas[document]
        for step in path:
            if isinstance(at, Mapping) and step not in at:  # of a field's name jsonschema-rs leaves out where it stands
                return None
            at = at[step]
            if step == "$ref":
                named, _hash, pointer = at.partition("#")
                document = named or document
                at = self._schemas[document]
                for part in pointer.split("/")[1:]:
                    at = at[part]
        return at.get("description") if isinstance(at, Mapping) else None
