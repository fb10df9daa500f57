"""What a type allows, in plain words, read off the JSON schema that pydantic derives from an annotation."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}


def allowed_words(adapter: TypeAdapter[Any]) -> str:
    """What ``adapter`` accepts: ``a number greater than or equal to 0 (or a fraction such as 8/255)``."""
    schema = _schema(adapter)
    return _words(schema, schema.get("$defs", {}))


def accepts_bool(adapter: TypeAdapter[Any]) -> bool:
    """Whether ``true`` itself is meant to be a value; pydantic alone would read it as 1 wherever a number stands."""
    schema = _schema(adapter)
    kinds = [schema, *schema.get("anyOf", [])]
    return any(kind.get("type") == "boolean" or not kind for kind in kinds) or True in choices_of(adapter)


def choices_of(adapter: TypeAdapter[Any]) -> list[object]:
    """Every literal that ``adapter`` accepts anywhere inside its value."""
    return list(_choices(_schema(adapter)))


def shown(value: object) -> str:
    """``value`` as a user would write it on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"[{','.join(shown(item) for item in value)}]"
    return json.dumps(value, default=str)


def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    try:
        return adapter.json_schema()
    except PydanticInvalidForJsonSchema:
        return {"type": "object"}


def _words(schema: dict[str, Any], shared: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _words(shared[schema["$ref"].rpartition("/")[2]], shared)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_words(option, shared) for option in schema[several]))
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(shown(choice) for choice in schema['enum'])}"
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if kind == "array":
        return _list_words(schema, shared)
    if kind == "object":
        return "a mapping"
    return f"{_KINDS.get(str(kind), 'a value')}{_bounds(schema)}{_fraction(schema)}"


def _list_words(schema: dict[str, Any], shared: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"a list of {', '.join(_words(item, shared) for item in schema['prefixItems'])}"
    if not schema.get("items"):
        return "a list"
    return f"a list, each {_words(schema['items'], shared)}"


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "greater than or equal to",
        "exclusiveMinimum": "greater than",
        "maximum": "less than or equal to",
        "exclusiveMaximum": "less than",
        "multipleOf": "a multiple of",
    }
    bounds = [f"{text} {schema[key]:g}" for key, text in words.items() if key in schema]
    return f" {' and '.join(bounds)}" if bounds else ""


def _fraction(schema: dict[str, Any]) -> str:
    return f" (or a fraction such as {schema['x-fraction']})" if "x-fraction" in schema else ""


def _choices(schema: object) -> Iterator[object]:
    if isinstance(schema, dict):
        yield from schema.get("enum", [])
        yield from [schema["const"]] if "const" in schema else []
        for inner in schema.values():
            yield from _choices(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _choices(inner)
