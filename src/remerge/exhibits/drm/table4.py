"""Sign agreement after pruning.

The share, in %, of the experts with a sign at a position that have the majority's sign: the mean over all
positions of the {matrices} weight matrices of linear layers at which any of the {tasks} experts is left. In
the joint space, DRM's own steps prune: they keep the largest {density}% of all experts' renormalised entries
of a matrix together. In the original weights, the largest {density}% of each expert's entries of a matrix are
kept, as TIES trims a tensor. By chance: the agreement expected if the same entries were left with random
signs. The density, leaving out positions without a sign, and how the original weights are pruned are our
choice. The paper states none of these, but chance at 20% gives 84.7 for eight experts and 90.2 for five,
which is near its values in the joint space.
"""

from remerge.analysis.agreement import agreement_by_lot, experts_left, mean_agreement
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, frame
from remerge.exhibits.drm._spaces import SPACES
from remerge.report.run import Run
from remerge.report.table import Column, Table, number

READS = ("weights",)


def build(run: Run) -> Table:
    """One row per pair of a pruned space and a space in which signs are compared."""
    paper = Published(__file__, run.benchmark)
    rows: list[Row] = []
    for space, (pruned, seen, row) in SPACES.items():
        tally = getattr(run.weights.signs, space)
        rows.append(
            {
                "space": space,
                "pruned": pruned,
                "seen": seen,
                "agreement": 100 * mean_agreement(tally),
                "paper": paper.value(row, next(iter(paper.columns), None)),
                "lot": 100 * agreement_by_lot(tally),
                "left": experts_left(tally),
            }
        )
    columns = [
        Column("pruned", "Pruned"),
        Column("seen", "Signs in space"),
        *beside(Column("agreement", "Agreement", digits=1), "paper", paper),
        Column("lot", "By chance", digits=1),
        Column("left", "Experts left", digits=1),
    ]
    facts = {"matrices": run.weights.matrices, "density": number(100 * run.weights.density, 0)}
    return Table(frame(rows, columns, "space"), tuple(columns), rules=frozenset({2, 4}), facts=facts)
