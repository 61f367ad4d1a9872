"""Python imports this first in every process that has this folder on its PYTHONPATH."""

import os

import pretended

if os.environ.get(pretended.VARIABLE):
    pretended.install(os.environ[pretended.VARIABLE])
