"""mergekit configurations, as people have them: read where remerge methods make the same merge."""

from remerge.folders.mergekit.file import Asked as Asked
from remerge.folders.mergekit.file import read_recipe as read_recipe
from remerge.folders.mergekit.layers import from_nothing as from_nothing
from remerge.folders.mergekit.layers import stacked as stacked
from remerge.folders.mergekit.layers import stay as stay
from remerge.folders.mergekit.parts import Part as Part
from remerge.folders.mergekit.parts import merged_parts as merged_parts
from remerge.folders.mergekit.parts import parts_of as parts_of
from remerge.folders.mergekit.rows import with_tokens as with_tokens
from remerge.folders.mergekit.stored import check_adapters as check_adapters
from remerge.folders.mergekit.stored import check_stored as check_stored
