"""Findings in tasks' examples: repetitions, labels that a split lacks, prompts that are cut."""

from remerge.records._record import Part, Record

NAMED = 5
"""At most so many labels are named."""


class Examples(Part):
    """One split.

    Attributes:
        n: how many examples.
        repeated: how many of them have the input of an earlier one.
        seen: how many have an input that stands in a split before it too: of test in train or validation.
        lacking: the labels that none of them has.
    """

    n: int
    repeated: int
    seen: int
    lacking: list[str]


class Data(Record):
    """A task's splits.

    Attributes:
        dropped: how many examples of the source were left out because something is missing.
    """

    file = "data/{task}.json"

    task: str
    dropped: int
    splits: dict[str, Examples]

    def remarks(self) -> list[str]:
        """Remarks on the data, a sentence each; none if nothing is wrong with them."""
        said = [f"{self.dropped:,} examples with missing values left out"] if self.dropped else []
        for split, found in self.splits.items():
            parts = {
                f"also occur in {'train or validation' if split == 'test' else 'train'}": found.seen,
                "repeat another": found.repeated,
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
        n: how many there are.
        median: as many tokens has the middle one.
        longest: as many the longest.
        cut: how many are longer than the model reads, and lose an end.
    """

    n: int
    median: int
    longest: int
    cut: int

    def remarks(self, split: str) -> list[str]:
        """Remarks on them; none where none is cut."""
        share = f"{self.cut:,} of {self.n:,} {split} prompts are longer than the model reads"
        return [f"{share} and are truncated, the longest has {self.longest:,} tokens"] if self.cut else []


class Lengths(Record):
    """The prompts of every task by its splits."""

    file = "lengths.json"

    benchmark: str
    prompts: dict[str, dict[str, Prompts]]

    def remarks(self, task: str) -> list[str]:
        """Remarks on a task's prompts, a sentence each."""
        return [said for split, found in self.prompts[task].items() for said in found.remarks(split)]
