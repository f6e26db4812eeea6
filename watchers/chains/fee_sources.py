"""Two sources of a fee rate made one: our own model of the mempool or of history, and the node's
estimate (F1).

Pure. The model follows the mempool within minutes and knows nothing of habits; an estimator knows
habits and follows within hours. So the model decides, and the estimate moves it by a bounded share:
up where it is urgent, down where there is time. What is missing or no rate counts as not said.
"""

from math import isqrt

URGENT_LIFT_MAX = 3  # an estimate lifts what our model says at most so far (N26)


def urgent(model: int | None, estimate: int | None) -> int | None:
    """For the next blocks: the higher one, within bounds."""
    if model is None or estimate is None:
        return model if estimate is None else estimate
    return max(model, min(estimate, URGENT_LIFT_MAX * model))


def normal(model: int | None, estimate: int | None) -> int | None:
    """For some blocks on: the geometric mean; the estimate moves it as `urgent`, both ways."""
    if model is None or estimate is None:
        return model if estimate is None else estimate
    square = URGENT_LIFT_MAX**2
    return isqrt(model * min(max(estimate, model // square), square * model))


def economy(model: int | None, estimate: int | None) -> int | None:
    """For whoever can wait: the lower one; what stays out is bumped in time."""
    if model is None or estimate is None:
        return model if estimate is None else estimate
    return min(model, estimate)
