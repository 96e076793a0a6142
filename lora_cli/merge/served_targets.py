"""Which servers will take an adapter, told from the modules that it is going to be trained on.

The rules for a plain LoRA are those of `exportable` and `servers`. That vLLM passes by adapters on
vision and audio towers is told by excerpts of its sources; llama.cpp was not checked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.merge.adapter_config import CAUSAL_TASKS
from lora_cli.merge.exportable import ENDS
from lora_cli.merge.servers import Server, ServingFacts, servers_for
from lora_cli.targets.inspect import Inspection
from lora_cli.targets.parts import tower_of
from lora_cli.tasks import TASKS

ADAPTER = "ADAPTER"
"""Stands for the folder of the exported adapter."""
_INSTEAD = "merge it and serve that model, or serve it with peft"
_TOWERS = (
    "it passes by adapters on vision and audio towers, unless it is started with "
    "--enable-tower-connector-lora and the model's class has them"
)
_RANKS: Mapping[str, Callable[[int], int]] = {
    "twice the rank": lambda rank: 2 * rank,
    "rank squared": lambda rank: rank * rank,
}
"""Of a plain LoRA that is the same as a variant's adapter, by `Capability.exports`."""


def servers_taking(inspection: Inspection) -> list[Server]:
    """Return what each server will make of the adapter, once it is trained and exported."""
    choice, held = inspection.choice, inspection.quantization
    modules = choice.matched.modules
    facts = ServingFacts(
        rank=_rank(inspection),
        quantization=held.method,
        double_quantization=bool(getattr(held, "double_quantization", False)),
        input_by_output=any(each.conv1d for each in modules),
        experts=any(".experts." in each.name for each in modules),
    )
    servers = servers_for(base=inspection.name, adapter=ADAPTER, facts=facts)
    if why_not := _no_plain_lora(inspection):
        return [each if each.name == "peft" else Server(each.name, "", why_not) for each in servers]
    if any(tower_of(each.name) for each in modules) and len(inspection.towers):
        servers = [
            Server(each.name, "", _TOWERS) if each.name == "vLLM" and not each.why_not else each
            for each in servers
        ]
    return servers


def _no_plain_lora(inspection: Inspection) -> str:
    """Return why no plain LoRA can hold the adapter; empty if one can."""
    choice, tasks = inspection.choice, inspection.tasks
    spec, matched = choice.spec, choice.matched
    if spec.capability.exports == "none":
        return f"`{spec.variant}` changes no weight: serve it with peft, or train a LoRA"
    ends = [each.name for each in matched.modules if ENDS.intersection(each.name.split("."))]
    lost = {
        f"adapters for {tasks[0] if tasks else 'such models'} are not exported": not tasks
        or TASKS[tasks[0]].peft_task not in CAUSAL_TASKS,
        f"a plain LoRA cannot hold whole modules ({_few(matched.saved_modules)})": bool(
            matched.saved_modules
        ),
        "a plain LoRA cannot hold trained tokens": isinstance(spec, LowRankSpec)
        and bool(spec.trainable_tokens),
        "a plain LoRA cannot hold experts in one tensor": bool(matched.parameters),
        f"a LoRA on `{_few(ends)}` is not read alike": bool(ends),
    }
    found = next((why for why, is_so in lost.items() if is_so), "")
    return f"{found}: {_INSTEAD}" if found else ""


def _few(names: object) -> str:
    return ", ".join(tuple(names)[:2]) if isinstance(names, tuple | list) else ""


def _rank(inspection: Inspection) -> int:
    """Return the rank of the plain LoRA; of an approximation, the rank that is chosen then."""
    spec = inspection.choice.spec
    rank = int(getattr(spec, "rank", 1))
    if isinstance(spec, LowRankSpec):
        rank = max([rank, *spec.rank_pattern.values()])
    times = _RANKS.get(spec.capability.exports)
    return times(rank) if times else rank
