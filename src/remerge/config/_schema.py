"""The JSON schema of a configuration as people write it, by which editors check and complete a file."""

from typing import Any

from remerge.config.benchmark import Config
from remerge.config.reading import INCLUDE
from remerge.variants import TUNE


def schema() -> dict[str, Any]:
    """What a file may hold: variants in their short form, and keys that it leaves to the file it includes."""
    whole: dict[str, Any] = Config.model_json_schema()
    included = {
        "type": "string",
        "default": None,
        "description": "another configuration that this one builds on, relative to it: keys are replaced one "
        "by one, lists as a whole; what that one has may be left out here",
    }
    whole["properties"] = {INCLUDE: included, **whole["properties"]}
    del whole["properties"]["tasks"]["minProperties"]
    short = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "null"]},
    }
    parts = whole["$defs"]
    resolved = parts["Variant"]
    parts["Variant"] = {
        "description": "A merge method's name, or the name with the parameters that differ from its "
        f"defaults: {{ties: {{density: 0.1}}}}. A value may be chosen from a list on validation scores: "
        f"{{{TUNE}: [0.1, 0.2]}}. Among the parameters, seeds says how often each merge is made, for a "
        "random or learned method.",
        "anyOf": [{"type": "string"}, short, resolved],
    }
    for part in (whole, *parts.values()):
        part.pop("required", None)
    return whole
