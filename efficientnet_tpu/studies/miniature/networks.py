"""The networks of the paper in miniature, what their results say, and Figure 8 of them. No TensorFlow."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.compound_scaling import Coefficients
from efficientnet_tpu.paper.figures import Figure, Panel, PointSeries
from efficientnet_tpu.paper.paper_table import PaperTable
from efficientnet_tpu.studies import scaling_study
from efficientnet_tpu.studies.grid_search import Candidate
from efficientnet_tpu.studies.miniature.seed_noise import Comparison, compare, pooled_noise
from efficientnet_tpu.studies.scaling_study import BASE, COMPOUND, TrialResult

SINGLE = ("depth", "width", "resolution")
LONGER = "base-longer"  # the base, trained longer than everything else
FINE_TUNED, FROM_SCRATCH = "fine-tuned", "from-scratch"


def usable_candidates(
    found: Sequence[Candidate], base: Variant, largest_phi: int, largest_resolution: int | None, num_classes: int
) -> list[Candidate]:
    """Returns the candidates whose coefficients can be compared at every phi.

    Left out are coefficients by which no phi comes near 2, 4, ... times the base's multiply-adds, and those by which
    images grow larger than `largest_resolution`.
    """

    def is_usable(coefficients: Coefficients) -> bool:
        for phi in range(1, largest_phi + 1):
            variant = scaling_study.scale_compound(base, 2.0**phi, coefficients, num_classes)
            if largest_resolution is not None and variant.resolution > largest_resolution:
                return False
            if not scaling_study.is_near(variant, base, 2.0**phi, num_classes):
                return False
        return True

    usable = (replace(one, coefficients=tuple(filter(is_usable, one.coefficients))) for one in found)
    return [one for one in usable if one.coefficients]


def scaled_name(way: str, phi: int) -> str:
    """Returns the name of a network: 'depth-phi2'."""
    return f"{way}-phi{phi}"


def scaled_networks(
    base: Variant, coefficients: Coefficients, largest_phi: int, num_classes: int
) -> dict[str, Variant]:
    """Returns the base, and its versions of 2, 4, ... 2^largest_phi times its multiply-adds, scaled in every way."""
    found = {BASE: base}
    for phi in range(1, largest_phi + 1):
        ways = scaling_study.scale_ways(base, 2.0**phi, coefficients, num_classes, f"--study_phi={largest_phi}")
        found |= {scaled_name(way, phi): variant for way, variant in ways.items() if way != BASE}
    return found


def chosen_by(row: TrialResult) -> float:
    """Returns the accuracy (0..1) that coefficients are chosen by: on the minival images, where there are some."""
    return row.top_1 if row.chosen_by is None else row.chosen_by


def accuracies(rows: Sequence[TrialResult]) -> dict[str, list[float]]:
    """Returns the accuracies (0..1) of each network's trainings, in the order of seeds."""
    return {way: [row.top_1 for row in trials] for way, trials in scaling_study.group_by_way(rows).items()}


def best_finalist(rows: Sequence[TrialResult]) -> str:
    """Returns the name of the candidate with the highest mean of what is chosen by."""
    groups = scaling_study.group_by_way(rows)
    return max(groups, key=lambda way: statistics.mean(map(chosen_by, groups[way])))


def finalist_table(rows: Sequence[TrialResult], title: str) -> PaperTable:
    """Returns STEP 1's table: the accuracies that coefficients were chosen by, and how sure the choice is."""
    best = best_finalist(rows)
    chosen = [replace(row, top_1=chosen_by(row)) for row in rows]
    groups = accuracies(chosen)
    noise = pooled_noise(groups.values())
    order = sorted(groups, key=lambda way: -statistics.mean(groups[way]))
    notes = [compare(best, groups[best], way, groups[way], noise).sentence() for way in order if way != best]
    notes.append("The seed that the grid was ranked by is among them, so that all of these means flatter a little.")
    ordered = [row for way in order for row in chosen if row.way == way]
    return replace(scaling_study.make_table(ordered, title), name="step_1", notes=tuple(notes))


def compare_ways(rows: Sequence[TrialResult], largest_phi: int) -> dict[int, list[Comparison]]:
    """Returns compound scaling against each single dimension, by phi."""
    groups = accuracies(rows)
    noise = pooled_noise(groups.values())
    found = {}
    for phi in range(1, largest_phi + 1):
        compound = scaled_name(COMPOUND, phi)
        others = [scaled_name(way, phi) for way in SINGLE]
        found[phi] = [compare(compound, groups[compound], other, groups[other], noise) for other in others]
    return found


def verdict(comparisons: Mapping[int, Sequence[Comparison]]) -> list[str]:
    """Returns a sentence for each phi on what is seen of the paper's claim: compound scaling beats every dimension."""
    sentences = []
    for phi, found in comparisons.items():
        ways = dict(zip(SINGLE, found, strict=True))
        clear = {
            "better than": [way for way, one in ways.items() if one.is_clear and one.difference > 0],
            "not to be told from": [way for way, one in ways.items() if not one.is_clear],
            "worse than": [way for way, one in ways.items() if one.is_clear and one.difference < 0],
        }
        said = "; ".join(f"{words} {_listed(names)} alone" for words, names in clear.items() if names)
        end = (
            "This is the paper's order." if len(clear["better than"]) == len(SINGLE)
            else "This contradicts the paper's order." if clear["worse than"]
            else "The paper's order is neither shown nor contradicted."
        )  # fmt: skip
        sentences.append(f"At {2**phi} times the base's multiply-adds compound scaling is {said}. {end}")
    return sentences


def convergence(rows: Sequence[TrialResult]) -> str:
    """Returns what longer training brings the base: little, where it has converged."""
    groups = accuracies(rows)
    return compare(LONGER, groups[LONGER], BASE, groups[BASE], pooled_noise(groups.values())).sentence()


def _listed(names: Sequence[str]) -> str:
    """Returns names as a sentence has them: 'depth, width and resolution'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def scaling_table(rows: Sequence[TrialResult], largest_phi: int, title: str) -> PaperTable:
    """Returns STEP 2's table with compound scaling against each single dimension, and the base trained longer."""
    notes = [one.sentence() for found in compare_ways(rows, largest_phi).values() for one in found]
    notes.append(convergence(rows))
    return replace(scaling_study.make_table(rows, title), name="step_2", notes=tuple(notes))


def scaling_figure(rows: Sequence[TrialResult], largest_phi: int, title: str) -> Figure:
    """Returns Figure 8: a curve for each way of scaling from the base on, with 95% intervals of the means."""
    groups = accuracies(rows)
    noise = pooled_noise(groups.values())
    cost = {row.way: row.multiply_adds / 1e6 for row in rows}
    curves = []
    for way in (*SINGLE, COMPOUND):
        names = [BASE, *(scaled_name(way, phi) for phi in range(1, largest_phi + 1))]
        points = tuple((cost[name], 100 * statistics.mean(groups[name]), "") for name in names)
        errors = tuple(100 * noise.radius(len(groups[name])) for name in names) if noise.freedom else ()
        curves.append(PointSeries(f"scale by {way}", points, errors=errors))
    return Figure("figure_8", title, (Panel("multiply-adds (millions)", "top-1 (%)", tuple(curves)),))


def transfer_table(rows: Sequence[TrialResult], title: str) -> PaperTable:
    """Returns the table of transfer: the scaled network against the base, and both against training from scratch."""
    groups = accuracies(rows)
    noise = pooled_noise(groups.values())
    pairs = [(f"{COMPOUND}-{how}", f"{BASE}-{how}") for how in (FINE_TUNED, FROM_SCRATCH)]
    pairs += [(f"{name}-{FINE_TUNED}", f"{name}-{FROM_SCRATCH}") for name in (BASE, COMPOUND)]
    notes = [compare(one, groups[one], other, groups[other], noise).sentence() for one, other in pairs]
    return replace(scaling_study.make_table(rows, title), name="transfer", notes=tuple(notes))
