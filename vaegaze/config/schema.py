"""A JSON schema of a tree of settings, by which an editor completes and checks the YAML file."""

import dataclasses
import re
from typing import Any

from vaegaze.config.tree import Setting, sections_of, settings_of

DRAFT = "http://json-schema.org/draft-07/schema#"  # the latest that the YAML plugins of the common editors know in full


def json_schema(tree: type, title: str) -> dict[str, Any]:
    """The schema of the whole file. It describes one spelling of each value: `true` but not `yes`, 5 but not "5"."""
    return {"$schema": DRAFT, "title": title, **_section(tree, "")}


def _section(tree: type, key: str) -> dict[str, Any]:
    properties = {}
    for field in dataclasses.fields(sections_of(tree)[key]):
        full_key = f"{key}.{field.name}" if key else field.name
        if full_key in sections_of(tree):
            properties[field.name] = _section(tree, full_key)
            continue
        setting = settings_of(tree)[full_key]
        for spelling in filter(None, (setting, setting.in_degrees)):
            properties[spelling.name] = _setting(spelling)
    return {
        "description": " ".join((sections_of(tree)[key].__doc__ or "").split()),
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    schema = _value(setting)
    if setting.count is not None:
        schema = {"type": "array", "items": schema, "minItems": setting.count or 1}
        if setting.count:
            schema["maxItems"] = setting.count
    if setting.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    legal = f" ({setting.legal})" if setting.rules["legal"] or setting.rules["unit"] else ""
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    has_default = default is not None or setting.nullable
    return {"description": setting.rules["help"] + legal, **schema, **({"default": default} if has_default else {})}


def _value(setting: Setting) -> dict[str, Any]:
    """The schema of a single element of a list or pair."""
    rules = setting.rules
    if setting.kind is str and rules["choices"]:
        return {"enum": list(rules["choices"])}
    if setting.kind is str:
        # An editor reads an id such as 00002, without quotes, as a number, and `no` as a boolean.
        pattern, types = rules["pattern"], ["string", "number", "boolean"]
        if pattern is not None and not re.fullmatch(pattern, "1"):
            types = ["string"]
        return {"type": types} | ({"pattern": f"^({pattern})$"} if pattern else {})
    kinds = {bool: "boolean", int: "integer", float: "number", dict: "object"}
    limits = {"low": "minimum", "above": "exclusiveMinimum", "high": "maximum"}
    return {"type": kinds[setting.kind]} | {
        name: rules[rule] for rule, name in limits.items() if rules[rule] is not None
    }
