"""Methods in a joint basis, against their papers' formulas with a full SVD in float64."""

import pytest
import torch
from oracles import added, close, taus

import remerge
from remerge.deltas import Deltas, LowRank
from remerge.methods import prepare
from remerge.methods.decomposition import _basis
from remerge.methods.decomposition._basis import decompose, linear_weights

LINEAR = ["layers.0.attn.weight", "layers.1.mlp.weight"]


def svd(M, relative=0.0, absolute=0.0):
    U, s, Vt = torch.linalg.svd(M, full_matrices=False)
    kept = (s > relative * s[0]) & (s > absolute)
    return U[:, kept], s[kept], Vt[kept]


def drm(tau, *, lam, density, renormalise=True, prune=True, joint=True, elect=True, disjoint=True, rank=1.0):
    """DRM-H of ``[T, n, m]``, step by step as in Section 4.2."""
    T = len(tau)
    U, s, Vt = svd(torch.cat(list(tau), dim=1), relative=0.01)
    r = max(1, int(rank * len(s)))
    U, s, Vt = U[:, :r], s[:r], Vt[:r]
    V = torch.stack(Vt.chunk(T, dim=1))
    S = s.expand(T, -1).clone()
    if renormalise:
        norms = V.norm(dim=2)
        V, S = V / norms[:, :, None].clamp_min(1e-300), S * norms
    if prune:
        groups = [V] if joint else list(V)
        masks = []
        for group in groups:
            magnitudes = group.abs().flatten().sort(descending=True).values
            masks.append(group.abs() >= magnitudes[int(density * len(magnitudes)) - 1])
        V = V * (masks[0] if joint else torch.stack(masks))
    SV = S[:, :, None] * V
    if elect:
        sign = torch.sign(SV.sum(dim=0))
        SV = torch.where(torch.sign(SV) == -sign, 0, SV)
    weighted = (torch.tensor(lam).double()[:, None, None] * SV).sum(dim=0)
    return U @ (weighted / ((SV != 0).sum(dim=0).clamp_min(1) if disjoint else T))


ABLATIONS = [
    {},
    {"renormalise": False},
    {"prune": False},
    {"elect": False},
    {"disjoint": False},
    {"pruning": "individual"},
    {"rank": 0.5},
    {"density": 0.6},
]


@pytest.mark.parametrize("params", ABLATIONS, ids=str)
@pytest.mark.parametrize("method", ["drm_h", "drm_v"])
def test_drm_is_the_papers(base, experts, method, params):
    steps = {"density": 0.2} | {k: v for k, v in params.items() if k != "pruning"}
    steps["joint"] = params.get("pruning", "joint") == "joint"
    lam = [1.0, 0.5, 2.0]

    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return torch.tensordot(torch.tensor(lam).double(), tau, dims=1) / 3
        return drm(tau, lam=lam, **steps) if method == "drm_h" else drm(tau.mT, lam=lam, **steps).mT

    close(remerge.merge(method, base, experts, scale=lam, **params), added(base, merge))


@pytest.mark.parametrize("method", ["drm_h", "drm_v"])
def test_others_by_the_disjoint_mean(base, experts, method):
    """Entries that lack the sign of the sum dropped, the rest weighted and divided by how many they are."""
    lam = torch.tensor([1.0, 0.5, 2.0]).double()
    merged = remerge.merge(method, base, experts, scale=lam.tolist(), others="disjoint")
    plain = remerge.merge(method, base, experts, scale=lam.tolist())
    for name in base:
        if name in LINEAR:
            assert torch.equal(merged[name], plain[name])
            continue
        tau = taus(base, experts, name)
        kept = torch.where(tau.sign() == tau.sum(dim=0).sign(), tau, 0)
        count = (kept != 0).sum(dim=0).clamp_min(1)
        expected = base[name].double() + torch.tensordot(lam, kept, dims=1) / count
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-6)
        assert name == "norm.bias" or not torch.allclose(merged[name], plain[name])


def test_others_that_cancel_exactly_follow_their_tensors_majority():
    """The authors' code: an exact zero takes the sign that most entries of the tensor have."""
    base = {"b": torch.zeros(4)}
    experts = [{"b": torch.tensor([1.0, 1.0, -1.0, 2.0])}, {"b": torch.tensor([1.0, -1.0, -1.0, 2.0])}]
    merged = remerge.merge("drm_h", base, experts, others="disjoint")["b"]
    assert merged.tolist() == [1.0, 1.0, -1.0, 2.0]


def test_drm_v_is_drm_h_of_the_transposed(base, experts):
    def turned(state):
        return {name: state[name].T.contiguous() for name in LINEAR}

    def straight(state):
        return {name: state[name] for name in LINEAR}

    vertical = remerge.merge("drm_v", straight(base), {e: straight(s) for e, s in experts.items()})
    horizontal = remerge.merge("drm_h", turned(base), {e: turned(s) for e, s in experts.items()})
    close(vertical, {name: theta.T for name, theta in horizontal.items()})


@pytest.mark.parametrize("inner", ["ties", "dare_ties"])
def test_knots_is_the_papers(base, experts, inner):
    from test_interference import authors_ties

    from remerge.methods.interference._random import drawn

    spaces, rows = {}, []
    for name in LINEAR:
        tau = taus(base, experts, name)
        U, s, Vt = svd(torch.cat(list(tau), dim=1), absolute=1e-5)
        # The sign of a singular vector is free; ours and the oracle's differ by it, which TIES does not see.
        C = torch.stack((s[:, None] * Vt).chunk(3, dim=1))
        if inner == "dare_ties":
            mask = drawn(0.4, 3, list(experts), name, 0, C[0].numel()).view(C.shape).double()
            C = C * mask / 0.4
        spaces[name] = U
        rows.append(C.flatten(1))
    merged = authors_ties(torch.cat(rows, dim=1), 0.4 if inner == "ties" else 1.0, 1.0)
    parts = dict(zip(LINEAR, merged.split([r.shape[1] for r in rows]), strict=True))

    def merge(name):
        if name not in LINEAR:
            return taus(base, experts, name).mean(dim=0)
        return spaces[name] @ parts[name].view(spaces[name].shape[1], -1)

    close(remerge.merge("knots", base, experts, inner=inner, density=0.4, seed=3), added(base, merge))


def test_tsv_m_is_the_papers(base, experts):
    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return 0.8 * tau.mean(dim=0)
        kept = min(tau.shape[1:]) // 3
        triplets = [torch.linalg.svd(t, full_matrices=False) for t in tau]
        U = torch.cat([u[:, :kept] for u, _, _ in triplets], dim=1)
        s = torch.cat([s[:kept] for _, s, _ in triplets])
        Vt = torch.cat([vt[:kept] for _, _, vt in triplets])
        (P, _, Q), (R, _, S) = (torch.linalg.svd(M, full_matrices=False) for M in (U, Vt))
        return 0.8 * P @ Q @ torch.diag(s) @ R @ S

    close(remerge.merge("tsv_m", base, experts, scale=0.8), added(base, merge))


@pytest.mark.parametrize("nuclear", [0.1, 0.4, 0.75, 1.0])
def test_star_is_the_authors(base, experts, nuclear):
    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return 0.8 * tau.mean(dim=0)
        parts = []
        for delta in tau:
            U, s, Vt = torch.linalg.svd(delta, full_matrices=False)
            r = min(int(torch.searchsorted(s.cumsum(dim=0), nuclear * s.sum())) + 1, len(s))
            parts.append(U[:, :r] @ torch.diag(s[:r] * s.sum() / s[:r].sum()) @ Vt[:r])
        return 0.8 * torch.stack(parts).mean(dim=0)

    close(remerge.merge("star", base, experts, nuclear=nuclear, scale=0.8), added(base, merge))


def test_star_of_an_expert_that_is_the_base_in_a_layer(base, experts):
    """It has no singular triplets, and leaves those of the others at 1/T."""
    own = {**experts["mnli"], "layers.1.mlp.weight": base["layers.1.mlp.weight"].clone()}
    merged = remerge.merge("star", base, [experts["cola"], own], nuclear=1.0)
    expected = remerge.merge("average", base, [experts["cola"], own])
    torch.testing.assert_close(merged["layers.1.mlp.weight"], expected["layers.1.mlp.weight"])


@pytest.mark.parametrize("rank", [0.08, 0.5, 1.0])
def test_cart_is_the_authors(base, experts, rank):
    lam = [1.0, 0.5, 2.0]

    def merge(name):
        tau = taus(base, experts, name)
        merged = tau.mean(dim=0)
        if name in LINEAR:
            kept = max(1, int(rank * min(tau.shape[1:])))
            for weight, delta in zip(lam, tau - merged, strict=True):
                U, s, Vt = torch.linalg.svd(delta, full_matrices=False)
                merged = merged + weight * U[:, :kept] @ torch.diag(s[:kept]) @ Vt[:kept]
        return merged

    close(remerge.merge("cart", base, experts, rank=rank, scale=lam), added(base, merge))


def test_of_all_triplets_cart_leaves_the_average(base, experts):
    close(remerge.merge("cart", base, experts, rank=1.0), remerge.merge("average", base, experts))


def test_iso_c_is_the_papers(base, experts):
    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return tau.mean(dim=0)
        U, s, Vt = torch.linalg.svd(tau.sum(dim=0), full_matrices=False)
        return 0.8 * s.mean() * U @ Vt

    close(remerge.merge("iso_c", base, experts, scale=0.8), added(base, merge))


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_iso_cts_is_the_authors(base, experts, common):
    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return tau.mean(dim=0)
        r = min(tau.shape[1:])
        own = round((r - int(common * r)) / 3)
        U, s, Vt = (part[: r - 3 * own] for part in top_first(tau.sum(dim=0)))
        spaces = [(U, s, Vt)]
        for delta in tau:
            spaces.append(tuple(part[:own] for part in top_first(delta - U.T @ U @ delta)))
        U, s, Vt = (torch.cat(parts) for parts in zip(*spaces, strict=True))
        (P, _, Q), (R, _, S) = (torch.linalg.svd(M, full_matrices=False) for M in (U.T, Vt))
        return 0.8 * s.mean() * P @ Q @ R @ S

    close(remerge.merge("iso_cts", base, experts, common=common, scale=0.8), added(base, merge))


def top_first(M):
    U, s, Vt = torch.linalg.svd(M, full_matrices=False)
    return U.T, s, Vt


@pytest.mark.parametrize(("steps", "rate"), [(0, 1e-5), (1, 0.1), (30, 0.02)])
def test_wudi_is_the_authors(base, experts, steps, rate):
    """By autograd through the authors' loss and Adam, in float64; one expert leaves a matrix as it is."""
    experts["cola"] = {**experts["cola"], "layers.1.mlp.weight": base["layers.1.mlp.weight"].clone()}
    linear = ("layers.0.attn.weight", "layers.1.mlp.weight")

    def merge(name):
        tau = taus(base, experts, name)
        if name not in linear:
            return tau.mean(dim=0)
        merged = tau.sum(dim=0).requires_grad_()
        adam = torch.optim.Adam([merged], lr=rate)
        changed = tau[tau.flatten(1).norm(dim=1) > 0]
        for _ in range(steps):
            interference = (merged - changed) @ changed.mT
            loss = (interference.square() / changed.square().sum(dim=(1, 2), keepdim=True)).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return merged.detach()

    close(remerge.merge("wudi", base, experts, steps=steps, learning_rate=rate), added(base, merge), 1e-4)


def test_wudi_lowers_interference(base, experts):
    """To less than half of what task arithmetic leaves."""

    def interference(merged):
        found = 0.0
        for name in ("layers.0.attn.weight", "layers.1.mlp.weight"):
            tau, own = taus(base, experts, name), merged[name].double() - base[name]
            found += float(
                (((own - tau) @ tau.mT).square().sum(dim=(1, 2)) / tau.square().sum(dim=(1, 2))).sum()
            )
        return found

    before = interference(remerge.merge("task_arithmetic", base, experts, scale=1.0))
    assert interference(remerge.merge("wudi", base, experts, learning_rate=0.01)) < before / 2


def doge(tau, kept, *, scale, subspace, steps, rate, U=None):
    """DOGE TA of one matrix's deltas ``[T, n, m]``, by autograd through the authors' loss, in float64."""
    T, side = len(tau), min(tau.shape[1:])
    lam = (scale / tau.flatten(1).norm(dim=1))[:, None, None]
    if U is None:
        tops = [torch.linalg.svd(t, full_matrices=False)[0][:, : side // T] for t in tau]
        U = torch.linalg.svd(torch.cat(tops, dim=1), full_matrices=False)[0][:, : side // subspace]
    D = torch.zeros_like(tau[0], requires_grad=True)
    adam = torch.optim.Adam([D], lr=rate)
    for _ in range(steps):
        gap = (tau * (tau - (lam * (tau + D)).sum(dim=0))).sum(dim=2)
        adam.zero_grad()
        gap.square().sum().backward()
        D.grad -= U @ U.T @ D.grad
        adam.step()
    return (lam * kept * (tau + D.detach())).sum(dim=0)


def trims(base, experts, density):
    """The entries of linear layers that each task keeps, by the tensors' names."""
    tau = {name: taus(base, experts, name) for name in LINEAR}
    flat = torch.cat([t.flatten(1) for t in tau.values()], dim=1).abs()
    least = flat.sort(descending=True).values[:, int(density * flat.shape[1]) - 1]
    return {name: t.abs() >= least[:, None, None] for name, t in tau.items()}


@pytest.mark.parametrize("subspace", [2, 6, 100])
@pytest.mark.parametrize(("steps", "rate"), [(0, 1e-4), (1, 0.1), (40, 0.01), (400, 1e-4)])
def test_doge_is_the_authors(base, experts, subspace, steps, rate):
    """One expert leaves a matrix as it is, and has no part in it."""
    experts["cola"] = {**experts["cola"], "layers.1.mlp.weight": base["layers.1.mlp.weight"].clone()}
    kept = trims(base, experts, 0.4)
    settings = {"scale": 0.5, "subspace": subspace, "steps": steps}

    def merge(name):
        tau = taus(base, experts, name)
        if name not in LINEAR:
            return torch.zeros_like(tau[0])
        changed = tau.flatten(1).norm(dim=1) > 0
        return doge(tau[changed], kept[name][changed], rate=rate, **settings)

    merged = remerge.merge("doge", base, experts, density=0.4, learning_rate=rate, **settings)
    close(merged, added(base, merge), 1e-4)


@pytest.mark.parametrize(("count", "subspace"), [(1, 3), (3, 6)])
def test_doge_of_one_task_takes_its_longest_directions_as_shared(base, experts, count, subspace):
    """All directions are shared equally, and which come first must not be left to rounding."""
    same = {f"{k}": experts["cola"] for k in range(count)}
    settings = {"scale": 0.5, "subspace": subspace, "steps": 40}

    def merge(name):
        tau = taus(base, same, name)
        if name not in LINEAR:
            return torch.zeros_like(tau[0])
        U = torch.linalg.svd(tau[0])[0][:, : min(tau.shape[1:]) // subspace]
        return doge(tau, torch.ones_like(tau), rate=0.01, U=U, **settings)

    merged = remerge.merge("doge", base, same, density=1.0, learning_rate=0.01, **settings)
    close(merged, added(base, merge), 1e-4)


def test_doge_lowers_conflicts(base, experts):
    """To less than half of what its coefficients alone leave."""

    def conflict(merged):
        found = 0.0
        for name in LINEAR:
            tau, own = taus(base, experts, name), merged[name].double() - base[name]
            found += float((tau * (tau - own)).sum(dim=2).square().sum())
        return found

    params = {"density": 1.0, "scale": 2.0}
    before = conflict(remerge.merge("doge", base, experts, steps=0, **params))
    assert conflict(remerge.merge("doge", base, experts, learning_rate=0.01, **params)) < before / 2


def test_iso_cts_makes_no_direction_of_rounding():
    """Experts of rank 2 in one subspace: beyond what they have in common, there is nothing."""
    generator = torch.Generator().manual_seed(0)
    B, A = torch.randn(60, 2, generator=generator), torch.randn(2, 50, generator=generator)
    base = {"0.w": torch.zeros(60, 50)}
    experts = [{"0.w": B @ torch.diag(torch.tensor(s)) @ A} for s in ([1.0, 2.0], [3.0, 1.0], [2.0, 2.0])]
    merged = remerge.merge("iso_cts", base, experts, common=1.0)
    close(merged, remerge.merge("iso_c", base, experts), 1e-4)
    assert int(torch.linalg.matrix_rank(merged["0.w"], rtol=1e-4)) == 2


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (5, 40), (40, 5)])
def test_decompose_is_the_svd(shape):
    M = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, C = decompose(M)
    expected = torch.linalg.svdvals(M.double())
    torch.testing.assert_close(C.double().norm(dim=1), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(U @ C, M, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(U.T @ U, torch.eye(len(C)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 20, 30), (3, 90, 20)])
def test_wide_gram_matrices_in_float32(monkeypatch, shape):
    monkeypatch.setattr(_basis, "WIDE", 8)
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    dense = torch.cat(list(stack), dim=1)
    U, C = _basis.joint(stack, relative=0.01)
    sigma = torch.linalg.svdvals(dense.double())
    torch.testing.assert_close(C.double().norm(dim=(0, 2)), sigma, rtol=0, atol=2e-6 * float(sigma[0]))
    torch.testing.assert_close(U @ torch.cat(list(C), dim=1), dense, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(U.T @ U, torch.eye(len(sigma)), rtol=1e-4, atol=1e-5)


def test_decompose_finds_the_rank_of_noisy_products():
    generator = torch.Generator().manual_seed(0)
    M = torch.randn(64, 4, generator=generator) @ torch.randn(4, 80, generator=generator)
    assert decompose(M)[1].shape == (4, 80)
    assert decompose(torch.zeros(6, 9))[1].shape == (0, 9)


def test_directions_of_wide_layers_are_above_the_noise():
    """Eight experts of a layer of width 14,336: singular values of a hundredth are not rounding."""
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(8 * 14_336, 16, generator=generator))[0].T
    sigma = torch.tensor([1.0, *[0.005] * 15])
    _, C = _basis.joint((sigma[:, None] * Q).view(16, 8, 14_336).transpose(0, 1).contiguous())
    torch.testing.assert_close(C.norm(dim=(0, 2)), sigma, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "name",
    [
        "swin.encoder.layers.0.blocks.0.attention.relative_position_bias.relative_position_bias_table",
        "levit.encoder.stages.0.layers.0.attention_biases",
        "model.layers.0.mlp.experts.gate_up_proj_bias",  # of GPT-OSS
        "backbone.layers.0.mixer.A_log",  # of Mamba
    ],
)
def test_what_multiplies_no_state_is_no_linear_layer(name):
    base = {name: torch.rand(3, 2), "h.0.q.weight": torch.rand(3, 2)}
    assert linear_weights(Deltas(base, {"a": base})) == ["h.0.q.weight"]


def test_embeddings_are_no_linear_layers():
    names = ["shared.weight", "model.embed_tokens.weight", "h.0.q.weight", "lm_head.weight", "wte.weight"]
    names += ["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "conv.weight"]
    base = {name: torch.rand(3, 2) for name in names} | {"conv.weight": torch.rand(2, 2, 2)}
    assert linear_weights(Deltas(base, {"a": base})) == ["h.0.q.weight", "lm_head.weight"]


@pytest.fixture
def lora():
    """A base, three rank-2 experts as factors, and the same experts dense."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"layers.0.q.weight": (16, 12), "layers.1.up.weight": (24, 12), "norm.weight": (12,)}
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    factored, dense = {}, {}
    for expert in ("a", "b", "c"):
        factored[expert], dense[expert] = dict(base), dict(base)
        for name, shape in shapes.items():
            if len(shape) == 2:
                B, A = (torch.randn(s, generator=generator) for s in ((shape[0], 2), (2, shape[1])))
                delta = LowRank(B, A, 0.5)
                factored[expert][name], dense[expert][name] = delta, base[name] + delta.dense()
    return base, factored, dense


ALL = ["average", "task_arithmetic", "multi_slerp", "karcher", "model_stock", "ties", "dare", "dare_ties"]
ALL += ["consensus", "sce", "pcb", "ram", "lines", "metagpt"]


@pytest.mark.parametrize(
    "method",
    [*ALL, "breadcrumbs", "della", "drm_h", "drm_v", "knots", "tsv_m", "iso_c", "iso_cts", "wudi", "doge"],
)
def test_lora_as_factors_is_lora_dense(lora, method):
    base, factored, dense = lora
    params = {"density": 0.5} if method == "breadcrumbs" else {}
    close(remerge.merge(method, base, factored, **params), remerge.merge(method, base, dense, **params), 1e-4)


def test_slerp_of_lora(lora):
    base, factored, dense = lora
    two = [{e: states[e] for e in "ab"} for states in (factored, dense)]
    close(remerge.merge("slerp", base, two[0]), remerge.merge("slerp", base, two[1]), 1e-4)


@pytest.mark.parametrize("method", ["drm_h", "drm_v", "knots", "tsv_m", "iso_c", "iso_cts"])
def test_factors_are_never_multiplied_out(lora, method, monkeypatch):
    base, factored, _ = lora
    shapes = []
    dense, read = LowRank.dense, Deltas.__getitem__

    def watched(self):
        shapes.append(self.B.ndim + self.A.ndim)
        return dense(self)

    def stack(self, name):
        # KnOTS reads stacks of coordinates, which are tensors; factors must not become one.
        assert all(isinstance(state[name], torch.Tensor) for state in self.states.values())
        return read(self, name)

    monkeypatch.setattr(LowRank, "dense", watched)
    monkeypatch.setattr(Deltas, "__getitem__", stack)
    remerge.merge(method, base, factored)
    assert set(shapes) <= {4}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task_arithmetic", {}),
        ("ties", {"density": 0.3}),
        ("dare", {"density": 0.3}),
        ("dare_ties", {"seed": 3}),
        ("breadcrumbs", {"density": 0.4}),
        ("della", {}),
        ("consensus", {}),
        ("sce", {}),
        ("pcb", {"density": 0.5}),
        ("ram", {"boost": 0.5}),
        ("drm_h", {"density": 0.4}),
        ("drm_v", {}),
        ("knots", {}),
        ("tsv_m", {}),
    ],
)
def test_prepared_vectors_sum_to_the_merge(base, experts, method, params):
    lam = [0.9, 0.4, 1.1]
    prepared = prepare(method, Deltas(base, experts), **params)
    tied = {"lm_head.weight": "embed_tokens.weight"}

    def merge(name):
        vectors = prepared[tied.get(name, name)]
        return torch.tensordot(torch.tensor(lam), vectors, dims=1)

    close(remerge.merge(method, base, experts, scale=lam, **params), added(base, merge))
    assert prepared.experts == list(experts)
    assert list(prepared) == [name for name in base if name != "lm_head.weight"]


def test_parameters_may_stand_in_the_name(base, experts):
    deltas = Deltas(base, experts)
    named = prepare("ties@density=0.1,aggregate=sum,scope=tensor", deltas)
    given = prepare("ties", deltas, density=0.1, aggregate="sum", scope="tensor")
    assert all(torch.equal(named[name], given[name]) for name in named)
    assert prepare("none", deltas) is deltas
