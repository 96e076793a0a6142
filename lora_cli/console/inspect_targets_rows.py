"""An inspection in rows and lines: what the model holds, presets, peft's choices, variants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lora_cli.console.units import parameters
from lora_cli.targets.groups import NORMS, Group
from lora_cli.targets.inspect import Inspection, Row
from lora_cli.targets.names import last_names
from lora_cli.targets.peft_choice import Difference, PeftChoice
from lora_cli.targets.presets import PresetCost
from lora_cli.targets.support import VariantSupport
from lora_cli.targets.tree import Branch
from lora_cli.words import counted

TO_NAME = 3
"""Of patterns in one line."""


def summary_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Return the model, what it can be trained for, and what the adapter comes to."""
    base, choice, held = inspection.base, inspection.choice, inspection.quantization
    tied = "tied" if base.tied_embeddings else "untied"
    size = parameters(base.parameters)
    layers = counted(base.layers, "layer") if base.layers else "layers of several kinds"
    model = f"{inspection.name}  ({base.architecture}, {size} parameters, {layers}, {tied})"
    tasks = ", ".join(inspection.tasks) or "no task of loracli: it can be looked at, not trained"
    cost = f"{choice.trainable:,} trainable ({inspection.share:.2%} of all)"
    rows = [
        ("model", model),
        ("trains", tasks),
        ("adapter", f"{choice.spec.summary()}: {cost}"),
        ("modules", _modules(inspection)),
    ]
    if choice.matched.saved_modules:
        whole = f"{', '.join(choice.matched.saved_modules)} ({choice.beside:,} of those)"
        rows.append(("whole", whole))
    if held.method != "none":
        rows.append(("quantization", f"{held.method}: {_held(inspection)}"))
    return rows


def _modules(inspection: Inspection) -> str:
    """Return how many layers inside are adapted, and what beside them."""
    matched, linears = inspection.choice.matched, inspection.base.linears
    names = {each.name for each in linears}
    ends = [each.name for each in matched.modules if each.name not in names]
    inside = f"{len(matched.modules) - len(ends):,} of {len(linears):,} linear layers inside"
    tensors = f" and {counted(len(matched.parameters), 'tensor')}" if matched.parameters else ""
    with_ends = f", with {' and '.join(last_names(ends))}" if ends else ""
    return f"{inside} the model{tensors}{with_ends}"


def _held(inspection: Inspection) -> str:
    rows = [row for row in inspection.rows if row.quantized]
    inside = sum(row.group.parameters * row.quantized // row.group.count for row in rows)
    share = inside / max(1, inspection.base.parameters)
    return f"{parameters(inside)} of its parameters ({share:.1%})"


def group_rows(inspection: Inspection) -> list[tuple[str, ...]]:
    """Return the table of groups, its heading first; all vectors of a tower are one line."""
    method = inspection.quantization.method
    held = "quantizes" if method == "none" else method
    heading = ("part", "modules", "count", "layers", "kind", "shape", "parameters", held)
    total = max(1, inspection.choice.trainable)
    shown = _without_vectors(inspection.rows)
    return [
        (*heading, "trained", "of trained"),
        *((*_of_group(each), *_of_training(each, total)) for each in shown),
        *_vectors(inspection.rows),
    ]


def _without_vectors(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.group.role != NORMS or row.trainable]


def _of_group(row: Row) -> tuple[str, ...]:
    group = row.group
    shapes = "; ".join(_shape(group, each.shape) for each in group.shapes[:2])
    more = " …" if len(group.shapes) > 2 else ""
    size = f"tied to {group.tied_to}" if group.tied_to else parameters(group.parameters)
    size += f" ({group.shared} share another's)" if group.shared else ""
    quantized = "yes" if row.quantized == group.count else f"{row.quantized} of {group.count}"
    return (
        label(group),
        group.pattern,
        f"{group.count:,}",
        group.layers,
        group.kind,
        shapes + more,
        size,
        quantized if row.quantized else "no",
    )


def label(group: Group) -> str:
    """Return what a group is for in a few words: `attention q`, `vision mlp up`."""
    role = "" if group.role == "other" else group.role
    part = "" if group.part in ("weight", role) or role in ("head", "convolution") else group.part
    return " ".join(filter(None, (group.tower, role, part)))


def _shape(group: Group, shape: Sequence[int]) -> str:
    """Return the shape as it is held; the weight of a Conv1D lies the other way round."""
    return " × ".join(map(str, shape)) + (" (in × out)" if group.kind == "Conv1D" else "")


def _of_training(row: Row, total: int) -> tuple[str, str]:
    if not row.trainable:
        return "", ""
    whole = " whole" if row.whole else ""
    part = f" ({row.adapted} of {row.group.count})" if 0 < row.adapted < row.group.count else ""
    return f"{parameters(row.trainable)}{whole}{part}", f"{row.trainable / total:.1%}"


def _vectors(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield one row for all norms and other vectors that nothing trains, for each tower."""
    towers: dict[str, list[Group]] = defaultdict(list)
    for row in rows:
        if row.group.role == NORMS and not row.trainable:
            towers[row.group.tower].append(row.group)
    for tower, groups in towers.items():
        count, size = sum(g.count for g in groups), sum(g.parameters for g in groups)
        name = " ".join(filter(None, (tower, NORMS)))
        yield (name, "", f"{count:,}", "", "Vector", "", parameters(size), "no", "", "")


def odd_lines(inspection: Inspection) -> Iterator[str]:
    """Yield what is not the same in all layers: projections that some lack, other shapes."""
    some: dict[tuple[str, int], list[str]] = defaultdict(list)
    for group in (row.group for row in inspection.rows if row.group.role != NORMS):
        if group.missing:
            some[group.layers, group.of_layers].append(_short(group.pattern))
        for other in group.shapes[1:]:
            shape = _shape(group, other.shape)
            where = f" in layers {other.layers}" if other.layers else ""
            yield f"odd: {_short(group.pattern)} is {shape}{where}"
    for (layers, count), names in some.items():
        more = f" and {len(names) - TO_NAME} more" if len(names) > TO_NAME else ""
        yield f"only in layers {layers} of {count}: {', '.join(names[:TO_NAME])}{more}"


def _short(pattern: str) -> str:
    """Return a pattern from its last number on: `self_attn.q_proj`."""
    return pattern.rpartition("*.")[2]


def preset_rows(presets: Sequence[PresetCost]) -> list[tuple[str, ...]]:
    """Return each preset with its modules, what it trains and why it is refused."""
    rows: list[tuple[str, ...]] = [("preset", "modules", "trained", "of all", "")]
    for each in presets:
        tensors = f" + {counted(each.parameters, 'tensor')}" if each.parameters else ""
        trained = (f"{each.trainable:,}", f"{each.share:.2%}") if each.trainable else ("", "")
        modules = f"{each.modules}{tensors}" if each.modules else ""
        rows.append((each.name, modules, *trained, f"no: {each.why_not}" if each.why_not else ""))
    return rows


def peft_lines(choices: Sequence[PeftChoice]) -> Iterator[str]:
    """Yield what peft takes, and how it differs from `all-linear` here."""
    for each in choices:
        name = f"target_modules={each.target_modules}"
        if each.why_not:
            yield f"{name}: refused: {each.why_not}"
            continue
        tensors = f" and {counted(each.parameters, 'tensor')}" if each.parameters else ""
        cost = f"{each.trainable:,} trainable as plain LoRA"
        yield f"{name}: {counted(each.modules, 'module')}{tensors}, {cost}"
        if not each.only_peft and not each.only_ours:
            yield "  the same as our all-linear"
        yield from _differences("beside our all-linear", each.only_peft)
        yield from _differences("without, of our all-linear", each.only_ours)


def _differences(what: str, differences: Sequence[Difference]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in differences:
        by_reason[each.why].append(f"{_short(each.pattern)} ({each.count})")
    for why, names in by_reason.items():
        yield f"  {what}: {', '.join(names)}{f' — {why}' if why else ''}"


def variant_rows(variants: Sequence[VariantSupport]) -> list[tuple[str, str, str]]:
    """Return each variant with what it trains, or why it does not take the choice."""
    return [
        (
            each.variant,
            "" if each.why_not else f"{each.trainable:,}",
            each.why_not and f"no: {each.why_not}",
        )
        for each in variants
    ]


def tree_lines(branch: Branch, depth: int = 0) -> Iterator[str]:
    """Yield the tree, a module a line, those that are alike as one."""
    several = f"{branch.count} × " if branch.count > 1 else ""
    shape = f" {' × '.join(map(str, branch.shape))}" if branch.shape else ""
    size = f", {parameters(branch.parameters)}" if branch.parameters else ""
    name = f"{branch.name}: " if branch.name else ""
    yield f"{'  ' * depth}{name}{several}{branch.kind}{shape}{size}"
    for child in branch.children:
        yield from tree_lines(child, depth + 1)
