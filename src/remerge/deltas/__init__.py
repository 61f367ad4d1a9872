"""Experts as weight deltas from one base, and the base with merged deltas added."""

from remerge.deltas.experts import SAMPLE as SAMPLE
from remerge.deltas.experts import Deltas as Deltas
from remerge.deltas.merged import Combined as Combined
from remerge.deltas.merged import Entrywise as Entrywise
from remerge.deltas.merged import Merged as Merged
from remerge.deltas.merged import Tensors as Tensors
from remerge.deltas.merged import merge_state as merge_state
from remerge.deltas.tensors import PIECE as PIECE
from remerge.deltas.tensors import LowRank as LowRank
from remerge.deltas.tensors import Scratch as Scratch
from remerge.deltas.tensors import State as State
from remerge.deltas.tensors import Value as Value
from remerge.deltas.tensors import added as added
from remerge.deltas.tensors import aliases as aliases
from remerge.deltas.tensors import dtype_name as dtype_name
from remerge.deltas.tensors import finite as finite
from remerge.deltas.tensors import layer_of as layer_of
from remerge.deltas.tensors import places as places
from remerge.deltas.tensors import rounded as rounded
from remerge.deltas.tensors import some_rows as some_rows
from remerge.deltas.tensors import without_tf32 as without_tf32
