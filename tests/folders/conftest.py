"""Merges of folders are asked for in the folder where these are."""

import shutil

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def among(folder, monkeypatch):
    """In the folder of a file's models; what a test makes there goes with the test."""
    monkeypatch.chdir(folder)
    yield
    for made in ("merged", "theirs", "again"):
        shutil.rmtree(made, ignore_errors=True)
