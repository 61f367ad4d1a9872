"""The course of the coefficients of pairs while they are learned."""

from remerge.errors import UserError
from remerge.records import Course, Merge
from remerge.report.run import Run


def courses(run: Run, variant: str) -> list[tuple[Merge, Course]]:
    """Every merge of two by a learned variant, with the way of its coefficients.

    Raises:
        UserError: a record is from before these were kept.
    """
    found = []
    for merge in run.merges(variant, 2):
        if merge.course is None:
            path = Merge.place(run.results, variant=variant, group=2)
            raise UserError(f"{path} has no course of {merge.case}: delete it and run again")
        found.append((merge, merge.course))
    return found
