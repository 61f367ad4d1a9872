"""Iso-C: the summed delta with all its singular values made equal."""

from remerge.deltas import Deltas, LowRank, Merged, Value
from remerge.methods import Scale, method
from remerge.methods.decomposition._basis import averaged, linear_weights, singular, stacked, summed


@method(label="Iso-C", citation="Marczak et al., 2025, No Task Left Behind, arXiv:2502.04959")
def iso_c(deltas: Deltas, *, scale: Scale = 1.0) -> Merged:
    """theta_0 + lam · mean(Sigma) · U V^T, with sum_t ΔW_t = U Sigma V^T.

    The mean is over the singular values that are not zero in float32: a sum of low rank stays in its own
    space, where the published code fills up with arbitrary directions. All tensors but linear layers'
    weights: theta_0 + the mean of the tau_t.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        scale: lam (the paper's alpha), for linear layers.

    Cost: for a matrix n × m a Gram matrix of side min(n, m) and its eigenvectors.
    """
    linear = set(linear_weights(deltas))
    mean = averaged(deltas)

    def merge(name: str) -> Value:
        if name not in linear:
            return mean(name)
        U, sigma, Vt = singular(summed(stacked(deltas, name)))
        return LowRank(U * (scale * sigma.mean()), Vt)

    return deltas.tensorwise(merge)
