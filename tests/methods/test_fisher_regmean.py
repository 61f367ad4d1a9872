"""fisher and regmean against their formulas in float64."""

import pytest
import torch
from oracles import added, close, taus

import remerge
from remerge.errors import UserError


@pytest.fixture
def informations(base, experts):
    generator = torch.Generator().manual_seed(9)
    return {
        e: {k: torch.rand(v.shape, generator=generator) ** 4 for k, v in base.items() if k != "norm.bias"}
        for e in experts
    }


@pytest.fixture
def grams(base, experts):
    generator = torch.Generator().manual_seed(9)
    made = {}
    for expert in experts:
        made[expert] = {}
        for name in ("layers.0.attn.weight", "layers.1.mlp.weight"):
            X = torch.randn(40, base[name].shape[1], generator=generator)
            X[:, 2] = 0
            made[expert][name] = X.T @ X
    return made


@pytest.mark.parametrize(("weights", "normalise"), [(None, False), (None, True), ([0.5, 0.25, 0.25], True)])
def test_fisher_is_the_weighted_mean(base, experts, informations, weights, normalise):
    w = torch.tensor(weights or [1 / 3] * 3).double()
    for scale, of in zip((1, 0.01, 30), informations.values(), strict=True):
        of |= {name: scale * F for name, F in of.items()}
    if normalise:
        once = [[F.flatten() for k, F in of.items() if k != "lm_head.weight"] for of in informations.values()]
        w = w / (torch.stack([torch.cat(F).double().norm() for F in once]) + 1e-6)
    tied = {"lm_head.weight": "embed_tokens.weight"}

    def merge(name):
        name = tied.get(name, name)
        tau = taus(base, experts, name)
        c = w.view(-1, *[1] * (tau.ndim - 1)).expand_as(tau)
        if name != "norm.bias":
            c = c * (torch.stack([informations[e][name] for e in experts]).double() + 1e-6)
        return (c * tau).sum(dim=0) / c.sum(dim=0)

    merged = remerge.merge(
        "fisher", base, experts, statistics=informations, weights=weights, normalise=normalise
    )
    close(merged, added(base, merge))


def test_fisher_whose_informations_are_equally_long_is_that_of_any_scale(base, experts, informations):
    large = {e: {k: 50 * F for k, F in of.items()} for e, of in informations.items()}
    one, other = (
        remerge.merge("fisher", base, experts, statistics=given, epsilon=0, normalise=True)
        for given in (informations, {**informations, "mnli": large["mnli"]})
    )
    close(one, other)


def test_fisher_without_any_information_is_the_mean(base, experts):
    none = {e: {k: torch.zeros_like(v) for k, v in base.items()} for e in experts}
    for normalise in (False, True):
        merged = remerge.merge("fisher", base, experts, statistics=none, epsilon=0, normalise=normalise)
        close(merged, remerge.merge("average", base, experts))


def test_regmean_of_a_layer_that_nobody_uses_is_the_mean(base, experts, grams):
    none = {e: {k: torch.zeros_like(gram) for k, gram in of.items()} for e, of in grams.items()}
    close(remerge.merge("regmean", base, experts, statistics=none), remerge.merge("average", base, experts))


@pytest.mark.parametrize("shrink", [0.9, 0.0])
def test_regmean_solves_the_joint_least_squares(base, experts, grams, shrink):
    def merge(name):
        tau = taus(base, experts, name)
        if name not in grams["cola"]:
            return tau.mean(dim=0)
        seen = [i for i in range(tau.shape[2]) if i != 2]
        G = torch.stack([grams[e][name] for e in experts]).double()[:, seen][:, :, seen]
        G = shrink * G + (1 - shrink) * torch.diag_embed(G.diagonal(dim1=1, dim2=2))
        solved = tau.mean(dim=0)
        solved[:, seen] = (torch.linalg.inv(G.sum(0)) @ (G @ tau[:, :, seen].mT).sum(0)).T
        return solved

    merged = remerge.merge("regmean", base, experts, statistics=grams, shrink=shrink)
    close(merged, added(base, merge))


def test_regmean_reproduces_the_outputs_of_experts_that_agree(base, experts, grams):
    same = [experts["mnli"]] * 3
    merged = remerge.merge("regmean", base, same, statistics=list(grams.values()), shrink=1.0)
    close(merged, experts["mnli"])


def test_statistics_that_do_not_fit(base, experts, informations, grams):
    with pytest.raises(UserError, match="no statistics of expert cola: compute them"):
        remerge.merge("fisher", base, experts)
    with pytest.raises(UserError, match="no statistics of expert sst2"):
        remerge.merge("regmean", base, experts, statistics={k: v for k, v in grams.items() if k != "sst2"})
    with pytest.raises(UserError, match=r"are \[6, 6\], not \[8, 6\]"):
        remerge.merge("fisher", base, experts, statistics=grams)
    del informations["mnli"]["layers.0.norm.weight"]
    with pytest.raises(UserError, match=r"expert mnli has no statistics of layers.0.norm.weight"):
        remerge.merge("fisher", base, experts, statistics=informations)
    grams["cola"]["layers.0.attn.weight"][0, 0] = float("nan")
    with pytest.raises(UserError, match=r"statistics of layers.0.attn.weight contain NaN"):
        remerge.merge("regmean", base, experts, statistics=grams)
