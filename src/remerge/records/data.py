"""Findings in tasks' examples: repetitions, labels that a split lacks, truncated prompts."""

from remerge.records._record import Part, Record

NAMED = 5
"""The largest number of labels that are named."""


class Examples(Part):
    """One split.

    Attributes:
        n: the number of examples.
        repeated: the number of them with the input of an earlier one.
        seen: the number of them whose input is also in an earlier split: for test, in train or validation.
        lacking: the labels that none of them has.
    """

    n: int
    repeated: int
    seen: int
    lacking: list[str]


class Data(Record):
    """A task's splits.

    Attributes:
        dropped: the number of source examples left out because something is missing.
    """

    file = "data/{task}.json"

    task: str
    dropped: int
    splits: dict[str, Examples]

    def remarks(self) -> list[str]:
        """Remarks on the data, one sentence each; none if the data have no faults."""
        left = _of(self.dropped, "example", "examples")
        said = [f"{self.dropped:,} {left} with missing values left out"] if self.dropped else []
        for split, found in self.splits.items():
            earlier = "train or validation" if split == "test" else "train"
            parts = {
                f"also {_of(found.seen, 'occurs', 'occur')} in {earlier}": found.seen,
                f"{_of(found.repeated, 'repeats', 'repeat')} another": found.repeated,
            }
            said += [
                f"{count:,} of {found.n:,} {split} examples {what}" for what, count in parts.items() if count
            ]
            if found.lacking:
                named = ", ".join(found.lacking[:NAMED]) + (", …" if len(found.lacking) > NAMED else "")
                said.append(f"no {split} example has the label {named}")
        return said


class Prompts(Part):
    """The prompts of one split, in tokens.

    Attributes:
        n: their number.
        median: the median number of tokens.
        longest: the largest number of tokens.
        cut: the number of prompts longer than the model reads, which are truncated.
    """

    n: int
    median: int
    longest: int
    cut: int

    def remarks(self, split: str) -> list[str]:
        """Remarks on them; none if none is truncated."""
        be = _of(self.cut, "is", "are")
        share = f"{self.cut:,} of {self.n:,} {split} prompts {be} longer than the model reads"
        return [f"{share} and {be} truncated, the longest has {self.longest:,} tokens"] if self.cut else []


class Lengths(Record):
    """The prompts of every task by its splits."""

    file = "lengths.json"

    benchmark: str
    prompts: dict[str, dict[str, Prompts]]

    def remarks(self, task: str) -> list[str]:
        """Remarks on a task's prompts, one sentence each."""
        return [said for split, found in self.prompts[task].items() for said in found.remarks(split)]


def _of(count: int, one: str, several: str) -> str:
    """A word in the form that goes with a count."""
    return one if count == 1 else several
