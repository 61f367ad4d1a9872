"""What a task's examples are found to be: repetitions, and labels that a split lacks."""

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
        """What is to be known of the data, a sentence each: nothing of data without a fault."""
        said = [f"{self.dropped:,} examples with something missing left out"] if self.dropped else []
        for split, found in self.splits.items():
            parts = {
                f"also stand in {'train or validation' if split == 'test' else 'train'}": found.seen,
                "repeat another": found.repeated,
            }
            said += [
                f"{count:,} of {found.n:,} {split} examples {what}" for what, count in parts.items() if count
            ]
            if found.lacking:
                named = ", ".join(found.lacking[:NAMED]) + (", …" if len(found.lacking) > NAMED else "")
                said.append(f"no {split} example has the label {named}")
        return said
