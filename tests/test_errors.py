"""The one line about an unknown name."""

import pytest

from remerge.errors import unknown

VARIANTS = ["average", "ties", "dare_ties@density=0.1,scale=0.5", "divmerge@level=layer,tuned", "drm_h"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("dare_tis", "dare_ties@density=0.1,scale=0.5"),
        ("dare_ties", "dare_ties@density=0.1,scale=0.5"),
        ("divmerge", "divmerge@level=layer,tuned"),
        ("ties@density=0.3", "ties"),
        ("drm_h@density=0.3", "drm_h"),
        ("TIES", "ties"),
    ],
)
def test_a_variant_is_near_if_its_method_is(written, meant):
    assert unknown("variant", written, VARIANTS) == f"unknown variant {written!r}, did you mean {meant}?"


def test_where_none_is_near_all_are_named():
    assert unknown("variant", "xyz", VARIANTS) == f"unknown variant 'xyz', known: {', '.join(VARIANTS)}"
    assert unknown("variant", "xyz", []) == "unknown variant 'xyz', known: "
