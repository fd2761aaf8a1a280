"""The feed's schemas as one function that says what is wrong with a message's shape. Shell.

Needs jsonschema, which nothing else of the gateway does: it is imported where a stream is checked.
"""

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from referencing import Registry, Resource

_SENTENCES = 3  # of one message


class Schemas:
    """protocols/feeds/schema, read once."""

    def __init__(self) -> None:
        folder = resources.files("protocols") / "feeds" / "schema"
        schemas = {file.name: json.loads(file.read_text("utf-8")) for file in folder.iterdir()}
        registry: Registry[Any] = Registry().with_resources(
            (name, Resource.from_contents(schema)) for name, schema in schemas.items()
        )
        self._validators = {
            name.removesuffix(".json"): Draft202012Validator(schema, registry=registry)
            for name, schema in schemas.items()
        }

    def violations(self, kind: str, payload: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with a message of this kind, the first few."""
        for _count, error in zip(range(_SENTENCES), self._validators[kind].iter_errors(payload), strict=False):
            yield _sentence(error)


def _sentence(error: ValidationError) -> str:
    """Where in the message, what, and what the schema says about it."""
    said = error.schema.get("description") if isinstance(error.schema, Mapping) else None
    return f"{error.json_path}: {error.message}" + (f" ({said})" if said else "")
