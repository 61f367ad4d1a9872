"""Sign agreement after pruning.

Of the experts that have a sign at a position, the share in % that has the majority's: its mean over all
positions of the {matrices} weight matrices of linear layers at which any expert is left, {tasks} experts. In
the joint space DRM's own steps prune: the largest {density}% of all experts' renormalised entries of a matrix
are kept. Of the original weights the largest {density}% of each expert's entries of a matrix are kept, as
TIES trims a tensor. By lot: the agreement expected if the same entries were left and each had its sign by
lot. The density, leaving out positions without a sign, and how the original weights are pruned are our
choice: the paper says none of it, but 84.7 for eight experts and 90.2 for five, which lots give at 20%, are
near its values in the joint space.
"""

from remerge.analysis.agreement import agreement_by_lot, experts_left, mean_agreement
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, frame
from remerge.exhibits.drm._spaces import SPACES
from remerge.report.run import Run
from remerge.report.table import Column, Table, number

READS = ("weights",)


def build(run: Run) -> Table:
    """A row a space that is pruned and a space that is looked at."""
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
        Column("lot", "By lot", digits=1),
        Column("left", "Experts left", digits=1),
    ]
    facts = {"matrices": run.weights.matrices, "density": number(100 * run.weights.density, 0)}
    return Table(frame(rows, columns, "space"), tuple(columns), rules=frozenset({2, 4}), facts=facts)
