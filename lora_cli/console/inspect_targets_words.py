"""An inspection in sentences: what patterns mean, and what is worth a second thought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lora_cli.console.units import parameters
from lora_cli.targets.cost import rank_over_weights
from lora_cli.targets.explain import PatternMatch, Place
from lora_cli.targets.inspect import Inspection
from lora_cli.words import counted


def pattern_lines(inspection: Inspection) -> Iterator[str]:
    """Yield what each pattern matched and passed by; nothing for a preset."""
    if inspection.patterns:
        yield "\nwhat the patterns mean"
    for each in inspection.patterns:
        yield from _pattern(each)
    for twice in inspection.twice:
        patterns = " and ".join(f"`{pattern}`" for pattern in twice.patterns)
        yield f"meant twice, by {patterns}: {_place(twice.place)}; it is adapted once"


def _pattern(match: PatternMatch) -> Iterator[str]:
    regex = f", as a recipe has it `{{regex: {match.regex}}}`" if match.regex else ""
    yield f"`{match.pattern}` means {counted(match.modules, 'module')}{regex}"
    yield from (f"  {_place(each)}" for each in match.places)
    yield from (f"  passed by: {_place(each)}" for each in match.passed_by)


def _place(place: Place) -> str:
    layers = f", layers {place.layers}" if place.layers else ""
    return f"{place.pattern} ({place.count:,}{layers})"


def warnings_of(inspection: Inspection) -> Iterator[str]:
    """Yield what is worth a second thought about the choice."""
    yield from _refusals(inspection, inspection.refused, "this choice")
    yield from _doubts(inspection)


def warnings_of_snippet(inspection: Inspection) -> Iterator[str]:
    """Yield the same about the recipe that is printed."""
    yield from _refusals(inspection, inspection.snippet_refused, "this recipe")
    yield from _doubts(inspection)


def _refusals(inspection: Inspection, refused: Iterable[str], of: str) -> Iterator[str]:
    variant = inspection.choice.spec.variant
    yield from (f"the plan will refuse {variant} on {of}: {why_not}" for why_not in refused)


def _doubts(inspection: Inspection) -> Iterator[str]:
    """Yield a rank that is too high, towers that are reached into unasked, and what is left out."""
    choice = inspection.choice
    yield from rank_over_weights(choice.spec, choice.matched.modules)
    for each in inspection.towers:
        if not each.asked_for:
            modules, size = counted(each.modules, "module"), parameters(each.trainable)
            yield (
                f"{modules} of the {each.tower} tower are adapted too ({size} of what is trained); "
                f"without it: `exclude_modules: {{regex: {each.leave_out}}}`"
            )
    left_out = inspection.left_out
    if left_out:
        yield f"{counted(left_out, 'module')} that the targets mean are left out by other fields"
