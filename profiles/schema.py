"""The JSON Schema of a catalogue, so that editors complete and check it while it is written.

Accepts what the loader accepts in shape, shorthands included. What a schema cannot say (an option that names an
unknown image, a default that is none of the choices) is left to `armillary check`.
"""

from typing import Any

from pydantic import TypeAdapter

from profiles.model import Catalogue
from profiles.profile_list import ListedProfile

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12), a new one at each call."""
    schema = Catalogue.model_json_schema()
    listed = TypeAdapter(list[ListedProfile]).json_schema()
    definitions: dict[str, Any] = {**schema.pop("$defs"), **listed.pop("$defs")}
    properties = schema["properties"]
    for section in ("accelerators", "apps", "images"):
        properties[section] = {"anyOf": [properties[section], {"type": "null"}]}
    properties["profiles"]["minProperties"] = 1
    properties["profiles"] = {
        "description": "Profiles by key, in the order in which they are offered; or a KubeSpawner profile_list.",
        "anyOf": [properties["profiles"], {**listed, "minItems": 1}],
    }
    access = definitions["Access"]
    definitions["Access"] = {
        "description": access["description"],
        "anyOf": [{"const": "everyone"}, access],
    }
    definitions["Image"]["anyOf"] = [_given("reference"), _given("local")]
    definitions["KubernetesDevice"]["oneOf"] = [_given("resource"), _given("dra")]
    definitions["Accelerator"]["not"] = {"allOf": [_given("local"), _given("simulated")]}
    for operator, wrong in (("Equal", {"not": _given("value")}), ("Exists", _given("value"))):
        says = {"required": ["operator"], "properties": {"operator": {"const": operator}}}
        definitions["Toleration"].setdefault("allOf", []).append({"not": {"allOf": [says, wrong]}})
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}
    whole["title"] = "Armillary catalogue"
    result: dict[str, Any] = _with_key_rules(whole)
    return result


def _given(name: str) -> dict[str, Any]:
    """That the key is there with a value; `null` stands for absent."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _with_key_rules(schema: Any) -> Any:
    """The schema with the syntax of keys as a rule for every key.

    Pydantic writes it as `patternProperties`, which lets keys of any other form through with any value.
    """
    if isinstance(schema, list):
        return [_with_key_rules(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _with_key_rules(part) for key, part in schema.items()}
    patterns = changed.get("patternProperties")
    if isinstance(patterns, dict) and len(patterns) == 1 and "propertyNames" in changed:
        ((pattern, values),) = changed.pop("patternProperties").items()
        changed["additionalProperties"] = values
        changed["propertyNames"] = {**changed["propertyNames"], "pattern": pattern}
    return changed
