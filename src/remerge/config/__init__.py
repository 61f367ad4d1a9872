"""The configuration of a benchmark."""

from remerge.config._schema import schema as schema
from remerge.config.agreement import UNMERGED as UNMERGED
from remerge.config.benchmark import RESULTS as RESULTS
from remerge.config.benchmark import Config as Config
from remerge.config.checking import check as check
from remerge.config.checking import measured as measured
from remerge.config.checking import missing as missing
from remerge.config.merging import Variant as Variant
from remerge.config.models import Finetune as Finetune
from remerge.config.models import Lora as Lora
from remerge.config.reading import dump as dump
from remerge.config.reading import load as load
from remerge.config.reading import validate as validate
from remerge.config.tasks import OF_NUMBERS as OF_NUMBERS
from remerge.config.tasks import OF_TWO as OF_TWO
from remerge.config.tasks import RIGHT_OR_WRONG as RIGHT_OR_WRONG
from remerge.config.tasks import SPLITS as SPLITS
from remerge.config.tasks import Kind as Kind
from remerge.config.tasks import Task as Task
from remerge.variants import digest as digest
