"""The records that stages write and the report reads: keys, types and paths, and ANP.

A class gives the path of its file below ``results/<benchmark>`` and its contents. Every file is checked
against its class when read, and refused by name, line and key if wrong. Neither torch nor pandas is imported.
"""

from remerge.records._record import Record as Record
from remerge.records.costs import Cost as Cost
from remerge.records.data import Data as Data
from remerge.records.data import Lengths as Lengths
from remerge.records.data import Prompts as Prompts
from remerge.records.likeness import Aligned as Aligned
from remerge.records.likeness import Alignment as Alignment
from remerge.records.likeness import Dropped as Dropped
from remerge.records.likeness import Signs as Signs
from remerge.records.likeness import Weights as Weights
from remerge.records.merges import Course as Course
from remerge.records.merges import Merge as Merge
from remerge.records.merges import Point as Point
from remerge.records.merges import Seconds as Seconds
from remerge.records.merges import Selection as Selection
from remerge.records.models import Made as Made
from remerge.records.models import Model as Model
from remerge.records.scores import Divergence as Divergence
from remerge.records.scores import Divergences as Divergences
from remerge.records.scores import Reference as Reference
from remerge.records.scores import Score as Score
from remerge.records.scores import Scores as Scores
from remerge.records.scores import anp as anp
from remerge.records.scores import normalised as normalised
from remerge.records.scores import normalised_restricted as normalised_restricted
