"""The catalogue of methods in print."""

import json

import pytest

import remerge
from remerge import catalogue
from remerge.__main__ import main

SHOWN = list(remerge.methods().values())


def test_the_listing_fits_a_terminal():
    lines = catalogue.listing(SHOWN).split("\n")
    assert max(map(len, lines)) <= 80
    for known in SHOWN:
        assert f"{known.name}  {known.label}" in lines
        for name in known.parameters:
            assert any(line.startswith(f"    {name} ") for line in lines)
    assert lines.count("INTERFERENCE") == 1
    assert "    scope = model     model | tensor" in lines


def test_the_markdown_table_has_a_line_a_method():
    text = catalogue.markdown(SHOWN)
    lines = text.split("\n")
    assert len(lines) == 2 + len(SHOWN)
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines)
    assert "`density` = 0.2: float in (0, 1]" in text
    assert "`epochs` = 4: int from 1<br>`inputs` = None: int from 1 or none<br>`replaced`" in text
    assert "| 2 experts | Shoemake" in text
    assert all(method.summary.endswith(".") for method in SHOWN)


def test_json_is_whole():
    found = {entry["name"]: entry for entry in json.loads(catalogue.as_json(SHOWN))}
    assert list(found) == list(remerge.methods())
    assert found["slerp"]["needs"]["experts"] == 2
    assert found["breadcrumbs"]["parameters"]["density"] == {"values": "float in (0, 1]", "default": 0.1}
    assert found["layerwise"]["parameters"]["scale"]["required"] is True


@pytest.mark.parametrize(
    ("options", "start"), [([], "INTERFERENCE\n\nties  "), (["--json"], "["), (["--markdown"], "| method |")]
)
def test_one_method_is_asked_for(capsys, options, start):
    assert main(["methods", "ties", *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith(start) and "slerp" not in out
    assert main(["methods", "tise"]) == 2
    assert "did you mean ties?" in capsys.readouterr().err
