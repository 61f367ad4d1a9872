"""The configuration of a benchmark."""

from remerge.config.reading import check_methods as check_methods
from remerge.config.reading import dump as dump
from remerge.config.reading import load as load
from remerge.config.reading import validate as validate
from remerge.config.sections import RESULTS as RESULTS
from remerge.config.sections import Config as Config
from remerge.config.sections import Finetune as Finetune
from remerge.config.sections import Lora as Lora
from remerge.config.sections import Task as Task
from remerge.config.sections import Variant as Variant
from remerge.config.sections import digest as digest
from remerge.config.sections import variant_name as variant_name
