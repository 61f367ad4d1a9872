"""What tests count in the work of jobs."""

from remerge.units import Work


def passes(work: Work) -> int:
    """The forward passes of some work."""
    return sum(unit.passes * count for unit, count in work.items())
