"""KnOTS: align weight deltas in a joint basis, then TIES or DARE-TIES on their coordinates."""

from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank, Merged, State
from remerge.methods import Scale, Share, method, per_expert
from remerge.methods.decomposition._basis import joint, linear_weights, stacked
from remerge.methods.interference._interference import disjoint
from remerge.methods.interference._random import drawn
from remerge.methods.interference._select import kth_largest

TOLERANCE = 1e-5
