"""How the coefficients of pairs change while they are learned."""

from remerge.errors import UserError
from remerge.records import Course, Merge
from remerge.report.run import Run


def courses(run: Run, variant: str) -> list[tuple[Merge, Course]]:
    """Every merge of two by a learned variant, with the course of its coefficients.

    Raises:
        UserError: a record was written before courses were kept.
    """
    found = []
    for merge in run.merges(variant, 2):
        if merge.course is None:
            path = Merge.place(run.results, variant=variant, group=2)
            raise UserError(f"{path} has no course of {merge.case}: delete it and run again")
        found.append((merge, merge.course))
    return found
