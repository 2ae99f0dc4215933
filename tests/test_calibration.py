"Calibrations never say what their documents cannot tell, and readings of one document stay together"

import numpy as np
import pytest

from mlcllm.calibration import CALIBRATIONS, cross_calibrate, fit_calibrator
from mlcllm.data import LabelDist, load_docs, same_document, split_annotators
from mlcllm.metrics import kl


def estimates(docs, seed=0):
    "Votes moved towards one half, and noise"
    p = np.clip(
        0.1 + 0.8 * docs.human().probs + np.random.default_rng(seed).normal(0, 0.05, docs.gold.shape),
        0.001,
        0.999,
    )
    return LabelDist(p, docs.labels, docs.ids, "noisy")


@pytest.mark.parametrize("how", ["isotonic", "isotonic_per_label"])
@pytest.mark.parametrize("n", [5, 20, 57])
def test_isotonic_keeps_to_what_n_documents_can_tell(how, n):
    "It gave exact 0 and 1, each of which costs 18 nats where one person disagrees"
    dev, test = load_docs("demo", "dev").take(range(n)), load_docs("demo", "test")
    fitted = fit_calibrator(estimates(dev), dev, how)
    p = fitted.transform(estimates(test)).probs
    assert p.min() >= 1 / (n + 2) - 1e-12 and p.max() <= 1 - 1 / (n + 2) + 1e-12
    assert kl(p, test.human().probs, True).mean() < 6


def test_a_label_that_nobody_chose_gets_laplaces_share():
    dev = load_docs("demo", "dev").take(range(8))
    none = LabelDist(np.zeros_like(dev.gold, float), dev.labels, dev.ids, "never")
    nobody = dev.take(range(8))
    object.__setattr__(nobody, "votes", np.zeros_like(nobody.votes))
    p = fit_calibrator(none, nobody, "isotonic_per_label").transform(none, allow_fitted=True).probs
    np.testing.assert_allclose(p, 1 / 10)


@pytest.mark.parametrize("how", CALIBRATIONS)
def test_readings_of_one_document_are_never_on_both_sides(how):
    "A person's reading was calibrated with the help of another person's reading of the same document"
    docs = split_annotators(load_docs("demo", "dev").take(range(10)))
    dist, of = estimates(docs), same_document(docs)
    whole = cross_calibrate(dist, docs, how, n_folds=10)
    for k in range(3):  # left out by hand
        rest, held = np.flatnonzero(of != k), np.flatnonzero(of == k)
        some = [
            LabelDist(dist.probs[r], dist.labels, tuple(dist.ids[i] for i in r), dist.method)
            for r in (rest, held)
        ]
        by_hand = fit_calibrator(some[0], docs.take(rest), how).transform(some[1]).probs
        np.testing.assert_allclose(whole.probs[held], by_hand, atol=1e-9)
    with pytest.raises(ValueError, match="n_folds must be a whole number from 2 to 10"):
        cross_calibrate(dist, docs, how, n_folds=11)
