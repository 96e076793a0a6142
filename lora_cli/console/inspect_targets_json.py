"""An inspection as JSON, for a program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lora_cli.targets.inspect import Inspection, Row
from lora_cli.targets.tree import Branch


def as_json_values(inspection: Inspection, *, tree: bool = False) -> dict[str, Any]:
    """Return all that was found; the module tree only where it is asked for."""
    from lora_cli.merge.served_targets import servers_taking

    base, choice = inspection.base, inspection.choice
    values: dict[str, Any] = {
        "model": {
            "name": inspection.name,
            "architecture": base.architecture,
            "model_type": base.model_type,
            "parameters": base.parameters,
            "layers": base.layers,
            "tied_embeddings": base.tied_embeddings,
            "tasks": inspection.tasks,
        },
        "quantization": inspection.quantization.method,
        "adapter": {
            **choice.spec.model_dump(mode="json"),
            "trainable_parameters": choice.trainable,
            "parameters_beside": choice.beside,
            "share": inspection.share,
            "modules": len(choice.matched.modules),
            "parameters": len(choice.matched.parameters),
            "refused": inspection.refused,
        },
        "groups": [_group(row) for row in inspection.rows],
    }
    for name in ("presets", "peft", "patterns", "twice", "towers", "variants"):
        values[name] = [asdict(each) for each in getattr(inspection, name)]
    values["servers"] = [asdict(each) for each in servers_taking(inspection)]
    values["recipe"] = inspection.snippet
    return values | ({"tree": _tree(inspection.tree)} if tree else {})


def _group(row: Row) -> dict[str, Any]:
    group = asdict(row.group)
    names = group.pop("names")
    return {
        **group,
        "count": len(names),
        "adapted": row.adapted,
        "whole": row.whole,
        "trainable_parameters": row.trainable,
        "quantized": row.quantized,
        "why_not_quantized": row.why_not_quantized,
    }


def _tree(branch: Branch) -> dict[str, Any]:
    return asdict(branch)
