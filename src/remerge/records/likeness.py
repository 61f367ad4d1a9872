"""How similar the experts are, in their weights and in how they process inputs."""

from remerge.records._record import Part, Record


class Signs(Part):
    """Tallies of the signs of all experts' deltas at the positions of linear layers, in several spaces.

    In each, ``[p][q]`` is the number of positions where p experts are positive and q negative; the others'
    entries are zero there, mostly by pruning.

    Attributes:
        unpruned: the weights as they are.
        original: the weights, pruned there.
        horizontal: DRM-H's joint space, pruned there.
        horizontal_back: the same, projected back to weights.
        vertical: DRM-V's joint space, pruned there.
        vertical_back: the same, projected back to weights.
    """

    unpruned: list[list[int]]
    original: list[list[int]]
    horizontal: list[list[int]]
    horizontal_back: list[list[int]]
    vertical: list[list[int]]
    vertical_back: list[list[int]]


class Dropped(Part):
    """The share of its entries that each basis vector of DRM-H's joint space loses to pruning.

    Attributes:
        matrix: the matrix of the joint space.
        share: the share of all entries that are dropped.
        plain: the share for each expert's vectors, largest singular value first, without renormalisation.
        renormalised: the same with renormalisation.
    """

    matrix: str
    share: float
    plain: list[list[float]]
    renormalised: list[list[float]]


class Weights(Record):
    """How similar the experts' weight deltas are.

    Attributes:
        experts: the tasks, in the order of rows and columns.
        cosines: the cosines of task vectors, with all merged weights as one vector.
        matrices: the number of weights of linear layers.
        density: the share of entries kept where signs are pruned.
    """

    file = "weights.json"

    benchmark: str
    experts: list[str]
    cosines: list[list[float]]
    matrices: int
    density: float
    signs: Signs
    dropped: Dropped


class Aligned(Part):
    """How similar the experts are in one weight of a linear layer: CKA of every pair, on the same inputs.

    Attributes:
        matrix: the weight.
        layer: its layer.
        outputs: CKA of W_t x, the layer's outputs with each expert's weight.
        updates: CKA of ΔW_t x, each expert's addition.
        aligned: CKA of V_t^T x, which KnOTS aligns.
    """

    matrix: str
    layer: str
    outputs: list[list[float]]
    updates: list[list[float]]
    aligned: list[list[float]]


class Alignment(Record):
    """How similarly experts process inputs.

    Attributes:
        experts: the tasks, in the order of rows and columns.
        adapters: whether the experts are adapters; otherwise all weights were trained.
        inputs: the number of inputs of each task.
        matrices: the matrices that every expert has changed.
    """

    file = "alignment.json"

    benchmark: str
    experts: list[str]
    adapters: bool
    inputs: int
    matrices: list[Aligned]
