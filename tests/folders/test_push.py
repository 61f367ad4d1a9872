"""`remerge push`: what is uploaded, and what never leaves the machine."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from remerge.__main__ import main
from remerge.folders.recipe import RECIPE
from remerge.folders.standalone import merge_folders


@pytest.fixture
def merged(tmp_path, monkeypatch, folder, expert_folders):
    monkeypatch.chdir(tmp_path)
    merge_folders("ties", "model", ["cola", "mnli"], Path("merged"))
    return Path("merged")


@pytest.fixture
def calls(monkeypatch):
    found = []

    def create(self, repository, **how):
        found.append((repository, how))
        return f"https://huggingface.co/{repository}"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **how: found.append(how))
    return found


@pytest.mark.parametrize("place", ["/home/me/cola", "results/w/experts/cola", "./cola", "cola"])
def test_a_merge_goes_up_without_a_recipe_of_local_folders(merged, calls, capsys, place):
    (merged / RECIPE).write_text(yaml.safe_dump({"models": [{"model": place}]}))
    assert main(["push", "merged", "me/merged", "--private"]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/me/merged\n"
    (made, how), upload = calls
    assert (made, how["private"]) == ("me/merged", True)
    assert upload["repo_id"] == "me/merged" and upload["ignore_patterns"] == [RECIPE]
    (merged / RECIPE).write_text(yaml.safe_dump({"models": [{"model": "google-t5/t5-base"}]}))
    (merged / "vocab.json").write_text('[["/", 0.5]]')
    assert main(["push", "merged", "me/merged"]) == 0
    assert calls[-1]["ignore_patterns"] is None


@pytest.mark.parametrize("place", ["/home/me/cola", {"model": {"path": "/home/me/a+b"}}])
@pytest.mark.parametrize("key", ["model", "source"])
def test_a_recipe_names_models_in_slices_and_for_tokens(merged, calls, key, place):
    model, ours = "google-t5/t5-base", {"model": "google-t5/t5-base", "source": "google-t5/t5-base"}
    for local in (False, True):
        named = {**ours, key: place} if local else ours
        tokens = {"<s>": {"source": {"kind": "model_token", "model": named["source"], "token": "/"}}}
        recipe = {
            "base_model": model,
            "slices": [{"sources": [{"model": named["model"], "layer_range": [0, 2]}]}],
            "tokenizer": {"source": "union", "tokens": tokens},
        }
        (merged / RECIPE).write_text(yaml.safe_dump(recipe))
        assert main(["push", "merged", "me/merged"]) == 0
        assert calls[-1]["ignore_patterns"] == ([RECIPE] if local else None)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "README.md").unlink(), "merged/README.md: not a model card"),
        (lambda f: (f / "README.md").write_text("# mine\n"), "not the card of a remerge merge"),
        (lambda f: (f / "model.safetensors").unlink(), "merged: no model.safetensors"),
        (lambda f: f.rename("elsewhere"), "merged: no such folder: give"),
        (
            lambda f: (f / "generation_config.json").write_text(json.dumps({"from": "/home/me/base"})),
            "generation_config.json names /home/me/base",
        ),
        (
            lambda f: (f / "tokenizer_config.json").write_text(json.dumps({"tokenizer_file": "/home/me/t"})),
            "tokenizer_config.json names /home/me/t",
        ),
    ],
)
def test_what_is_no_merge_or_tells_of_this_machine(merged, calls, capsys, spoil, words):
    spoil(merged)
    assert main(["push", "merged", "me/merged"]) == 2
    assert words in capsys.readouterr().err and not calls


def test_a_hub_that_refuses(merged, monkeypatch, capsys):
    class Refused(HfHubHTTPError):
        def __init__(self):
            Exception.__init__(self, "401 unauthorised")

    def refuse(self, *arguments, **how):
        raise Refused

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    assert main(["push", "merged", "me/merged"]) == 2
    assert "me/merged: the hub refused it (401 unauthorised)" in capsys.readouterr().err


def test_a_hub_that_may_not_be_asked(merged, monkeypatch, capsys):
    def offline(self, *arguments, **how):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(HfApi, "create_repo", offline)
    assert main(["push", "merged", "me/merged"]) == 2
    assert "me/merged: HF_HUB_OFFLINE keeps the hub away: unset it to push" in capsys.readouterr().err
