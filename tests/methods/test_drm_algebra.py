"""What DRM's equations imply, on random matrices."""

import pytest
import torch
from oracles import close

import remerge
from remerge.methods.decomposition._basis import joint


@pytest.mark.parametrize("method", ["drm_h", "drm_v"])
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_without_its_steps_it_is_averaging(base, experts, method, scale):
    """All entries kept, none dropped for its sign, the sum divided by T: U (1/T) sum_t C_t = mean of ΔW_t."""
    off = {"prune": False, "elect": False, "disjoint": False, "tolerance": 0.0}
    count = len(experts)
    mean = remerge.merge("task_arithmetic", base, experts, scale=scale / count)
    close(remerge.merge(method, base, experts, scale=scale, **off), mean, 1e-5)


@pytest.mark.parametrize("method", ["drm_h", "drm_v"])
def test_copies_of_one_delta_come_back_scaled(base, experts, method):
    one = experts["cola"]
    merged = remerge.merge(method, base, [one] * 3, scale=1.3, prune=False, tolerance=0.0)
    close(merged, remerge.merge("task_arithmetic", base, [one], scale=1.3), 1e-5)


@pytest.mark.parametrize("shape", [(3, 9, 7), (4, 6, 30), (2, 30, 6)])
def test_squared_norms_of_the_tasks_add_to_the_joint_singular_values(shape):
    """Eq. 5 and 6: Sigma_t holds the norms of the rows of Sigma V_t^T, and sum_t Sigma_t² = Sigma²."""
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    U, C = joint(stack.clone())
    sigma = torch.linalg.svdvals(torch.cat(list(stack.double()), dim=1))[: U.shape[1]]
    torch.testing.assert_close(C.double().norm(dim=2).square().sum(dim=0), sigma**2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_joint_singular_values_are_near_each_tasks(noise):
    """Proposition 2: |σ_i(joint) − √T σ_i(A)| ≤ sum_j (2‖A‖‖E_j‖ + ‖E_j‖²) / (√T σ_i(A)), E_j = ΔW_j − A."""
    generator = torch.Generator().manual_seed(2)
    A = torch.randn(8, 12, generator=generator)
    deltas = A + noise * torch.randn(4, 8, 12, generator=generator)
    together = joint(deltas.clone())[1].norm(dim=(0, 2))
    for one in deltas:
        sigma = torch.linalg.svdvals(one)
        off = torch.linalg.matrix_norm(deltas - one, 2)
        bound = (2 * sigma[0] * off + off**2).sum() / (2 * sigma)
        assert bool(((together - 2 * sigma).abs() <= bound * 1.0001).all())
