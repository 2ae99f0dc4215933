"""Models of annotators: known truth is recovered in the shapes of real corpora, and on these the estimates
from some people's votes predict the others'.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import betabinom

from mlcllm.bootstrap import bootstrap_weights
from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet, load_docs
from mlcllm.disagreement import disagreement, label_entropy, weighted_spearman
from mlcllm.estimators import reference_dists, resampling_floor
from mlcllm.people import beta_binomial, dawid_skene, people_ceiling, unbiased_brier, vote_variance

pytestmark = [
    pytest.mark.filterwarnings("ignore:ConvAbuse"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated"),
]
CORPORA = dict(HateXplainTargets="hatexplain", ConvAbuse="convabuse", REDv2="redv2")


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request, data_root):
    return real(request.param, data_root)


def real(name, data_root):
    folder = data_root / CORPORA[name]
    if not folder.is_dir():
        pytest.skip(f"no {name} at {folder}")
    return load_docs(name, "test", data_dir=folder)


def drawn(docs, share, seed):
    "The corpus's documents and annotators, with votes drawn from P(vote) (n_votes, n_labels)"
    rng = np.random.default_rng(seed)
    labels = replace(docs.labels, names=docs.labels.names[: share.shape[1]])
    gold = docs.gold[:, : share.shape[1]]
    return replace(docs, labels=labels, gold=gold, votes=(rng.random(share.shape) < share).astype(np.float32))


def overall(table, metric):
    rows = table[table.label.isna() & (table.metric == metric)]
    return rows.set_index("method")


# ---- beta-binomial


def test_intervals_hold_known_shares_in_the_shape_of_a_corpus(corpus):
    "Documents, numbers of votes and each label's Beta distribution are the corpus's; shares are drawn"
    fit = beta_binomial(corpus)
    common = np.flatnonzero(fit.to_frame()["mean"] > 0.01)
    rng = np.random.default_rng(0)
    truth = rng.beta(fit.a[common], fit.b[common], (len(corpus), len(common)))
    docs = drawn(corpus, truth[corpus.vote_doc], 1)
    again = beta_binomial(docs)
    lo, hi = again.interval(docs)
    covered = np.mean((lo <= truth) & (truth <= hi))
    shares, posterior = ((x.probs - truth) ** 2 for x in (docs.human(), again.posterior(docs)))
    print(f"{corpus.name}: coverage {covered:.3f}, error {shares.mean():.4f} -> {posterior.mean():.4f}")
    assert abs(covered - 0.95) < 0.02
    assert posterior.mean() < 0.9 * shares.mean()


def test_the_fit_is_the_maximum_of_scipys_likelihood():
    rng = np.random.default_rng(4)
    n = rng.integers(2, 8, 400)
    truth = rng.beta(0.5, 2.0, 400)
    doc = np.repeat(np.arange(400), n)
    votes = (rng.random(len(doc)) < truth[doc]).astype(np.float32)[:, None]
    ids = tuple(map(str, range(400)))
    names = LabelSet(("x",))
    docs = AnnotatedDocs("made", "test", names, ids, ids, np.zeros((400, 1)), votes, doc, doc.astype(str))
    fit = beta_binomial(docs)
    k = np.bincount(doc, votes[:, 0]).astype(int)

    def loss(v):
        return -betabinom.logpmf(k, n, *np.exp(v)).sum()

    slow = minimize(loss, np.zeros(2), method="Nelder-Mead", options=dict(xatol=1e-8, fatol=1e-10))
    np.testing.assert_allclose([fit.a[0], fit.b[0]], np.exp(slow.x), rtol=1e-4)


def test_classes_share_one_dirichlet_distribution():
    rng = np.random.default_rng(5)
    alpha = np.array([0.6, 1.2, 0.3])
    truth = rng.dirichlet(alpha, 3000)
    votes = np.concatenate([rng.multinomial(1, p, 3) for p in truth]).astype(np.float32)
    doc, ids = np.repeat(np.arange(3000), 3), tuple(map(str, range(3000)))
    names = LabelSet(("x", "y", "z"), False, False)
    docs = AnnotatedDocs(
        "made", "test", names, ids, ids, np.eye(3)[truth.argmax(1)], votes, doc, doc.astype(str)
    )
    fit = beta_binomial(docs)
    np.testing.assert_allclose(fit.a, alpha, rtol=0.12)
    np.testing.assert_allclose((fit.a + fit.b), fit.a.sum(), rtol=1e-9)
    posterior, (lo, hi) = fit.posterior(docs).probs, fit.interval(docs)
    np.testing.assert_allclose(posterior.sum(1), 1)
    assert abs(np.mean((lo <= truth) & (truth <= hi)) - 0.95) < 0.01
    k = docs.human().probs * 3

    def loss(v):
        a = np.exp(v)
        return -((gammaln(k + a) - gammaln(a)).sum() + 3000 * (gammaln(a.sum()) - gammaln(3 + a.sum())))

    slow = minimize(
        loss, np.zeros(3), method="Nelder-Mead", options=dict(xatol=1e-8, fatol=1e-8, maxiter=2000)
    )
    np.testing.assert_allclose(fit.a, np.exp(slow.x), rtol=1e-3)


# ---- Dawid and Skene


def log_loss(p, truth):
    return -np.log(np.clip(np.where(truth, p, 1 - p), 1e-8, 1)).mean()


def test_simulated_annotators_are_recovered_in_the_shape_of_a_corpus(corpus):
    """Each of the corpus's annotators gets a sensitivity and a specificity; in the mean over draws, P(label
    is true) is closer to the truth than the votes' shares, and with pseudo-votes has a lower log loss
    """
    who, names = pd.factorize(np.asarray(corpus.vote_annotator).astype(str), sort=True)
    errors, losses, off, held = [], [], [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = rng.random(len(corpus)) < 0.15
        hit, alarm = rng.beta(8, 3, len(names)), rng.beta(1, 25, len(names))
        docs = drawn(corpus, np.where(truth[corpus.vote_doc], hit[who], alarm[who])[:, None], 1000 + seed)
        model, plain = dawid_skene(docs), dawid_skene(docs, 0)
        ways = [x.probs[:, 0] for x in (docs.human(), plain.posterior, model.posterior)]
        errors.append([np.mean((p - truth) ** 2) for p in ways])
        losses.append([log_loss(p, truth) for p in ways])
        table = model.annotators
        assert table.annotator.tolist() == list(names)
        off.append(np.average(np.abs(table.sensitivity - hit), weights=table.n_true))
        held.append(np.average((table.sensitivity_lo <= hit) & (hit <= table.sensitivity_hi)))
    error, loss = np.mean(errors, 0), np.mean(losses, 0)
    print(
        f"{corpus.name}: squared error {error.round(4)}, log loss {loss.round(3)} (shares, ML, ours),",
        end=" ",
    )
    print(f"sensitivity off by {np.mean(off):.3f}, in the interval {np.mean(held):.2f}")
    assert error[2] < error[0] and error[2] < 1.03 * error[1] and loss.argmin() == 2
    if corpus.name == "HateXplainTargets":  # what the chapter says
        assert len(names) == 223 and loss[2] < loss[1] / 2 and error[2] < error[1]
    assert np.mean(off) < 0.1
    assert np.mean(held) > (0.7 if len(names) == 3 else 0.85)  # they take P(label is true) as it is estimated


def test_without_pseudo_votes_it_is_crowd_kits_maximum_likelihood():
    docs = load_docs("demo", "dev")
    for l in range(3):
        said = dict(task=docs.vote_doc, worker=docs.vote_annotator, label=docs.votes[:, l].astype(int))
        library = DawidSkene(n_iter=100, tol=-np.inf).fit_predict_proba(pd.DataFrame(said))
        ours = dawid_skene(docs, 0).posterior.probs[:, l]
        np.testing.assert_allclose(ours, library.loc[range(len(docs)), 1], atol=1e-3)


def test_a_better_annotator_outvotes_two_who_guess():
    "By hand: one who is always right and two who toss coins; where they differ, the first counts"
    rng = np.random.default_rng(8)
    truth = rng.random(600) < 0.4
    votes = np.stack([truth, rng.random(600) < 0.5, rng.random(600) < 0.5], 1).reshape(-1, 1)
    ids, doc = tuple(map(str, range(600))), np.repeat(np.arange(600), 3)
    start = np.array(["right", "coin", "dice"] * 600)
    docs = AnnotatedDocs(
        "made", "test", LabelSet(("x",)), ids, ids, truth[:, None] * 1.0, votes.astype(np.float32), doc, start
    )
    good = replace(docs, votes=docs.votes, vote_annotator=start)
    extra = rng.random((600, 2)) < np.where(truth, 0.9, 0.1)[:, None]  # two more who are often right
    more = np.concatenate([good.votes, extra.reshape(-1, 1)])
    five = replace(
        good,
        votes=more.astype(np.float32),
        vote_doc=np.concatenate([doc, np.repeat(np.arange(600), 2)]),
        vote_annotator=np.concatenate([start, np.tile(["good", "fair"], 600)]),
    )
    model = dawid_skene(five)
    assert ((model.posterior.probs[:, 0] > 0.5) == truth).mean() > 0.99
    rates = model.pooled.set_index("annotator")
    assert rates.sensitivity["right"] > 0.98 and abs(rates.sensitivity["coin"] - 0.5) < 0.08


def test_classes_of_a_single_label_task_exclude_each_other():
    rng = np.random.default_rng(9)
    truth = rng.choice(3, 800, p=[0.5, 0.3, 0.2])
    right = np.array([0.9, 0.8, 0.7, 0.6])
    said = np.where(rng.random((800, 4)) < right, truth[:, None], rng.choice(3, (800, 4)))
    doc, ids = np.repeat(np.arange(800), 4), tuple(map(str, range(800)))
    names = LabelSet(("x", "y", "z"), False, False)
    votes = np.eye(3, dtype=np.float32)[said.ravel()]
    docs = AnnotatedDocs(
        "made", "test", names, ids, ids, np.eye(3)[truth], votes, doc, np.tile(list("abcd"), 800)
    )
    model = dawid_skene(docs)
    np.testing.assert_allclose(model.posterior.probs.sum(1), 1)
    assert (model.posterior.probs.argmax(1) == truth).mean() > (docs.human().probs.argmax(1) == truth).mean()
    library = DawidSkene(n_iter=200, tol=-np.inf)
    raw = library.fit_predict_proba(
        pd.DataFrame(dict(task=doc, worker=docs.vote_annotator, label=said.ravel()))
    )
    np.testing.assert_allclose(
        dawid_skene(docs, 0).posterior.probs, raw.loc[range(800), [0, 1, 2]], atol=1e-4
    )


# ---- corrected scores and ceilings


@pytest.mark.parametrize("n_votes", [2, 3, 7])
def test_the_corrected_brier_score_is_unbiased(n_votes):
    "Over many corpora its mean is the distance to the known shares, and its intervals hold that"
    off, held = [], []
    for seed in range(60):
        rng = np.random.default_rng([seed, n_votes])
        truth = rng.beta(0.4, 1.2, (200, 2))
        doc, ids = np.repeat(np.arange(200), n_votes), tuple(map(str, range(200)))
        votes = (rng.random((len(doc), 2)) < truth[doc]).astype(np.float32)
        docs = AnnotatedDocs(
            "made", "test", LabelSet(("x", "y")), ids, ids, truth > 0.5, votes, doc, doc.astype(str)
        )
        p = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0, 1)
        true = ((p - truth) ** 2).sum(1).mean()
        row = overall(unbiased_brier(LabelDist(p, docs.labels, ids, "p"), docs, 300), "unbiased_brier").loc[
            "p"
        ]
        off.append(row.value - true)
        held.append(row.lo <= true <= row.hi)
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(len(off))
    assert np.mean(held) >= 0.88


def test_other_votes_read_by_the_model_are_the_ceiling_on_real_corpora(corpus):
    """The posterior of the others' votes, fitted to other documents, predicts a person better than their
    shares, one other person and label frequencies do; the floor is that of another chapter
    """
    table = people_ceiling(corpus, n_boot=200)
    found = overall(table, "brier").value
    print(f"{corpus.name}: {found.round(4).to_dict()}")
    assert found["true_shares"] < found["others_posterior"] < found["others"] < found["another_person"]
    assert found["others_posterior"] < found["prior"]
    distance = overall(table, "unbiased_brier").value
    assert abs(distance["true_shares"]) < 1e-12
    np.testing.assert_allclose(found - found["true_shares"], distance, atol=1e-12)
    two = corpus.take(np.flatnonzero(corpus.n_annotators >= 2))
    floor = (
        resampling_floor(corpus, 5, n_boot=0).set_index(["method", "metric"]).value["true_shares", "brier"]
    )
    np.testing.assert_allclose(
        (vote_variance(two) / two.n_annotators[:, None]).sum(1).mean(), floor, rtol=1e-6
    )


def test_models_are_held_against_the_same_votes():
    docs = load_docs("demo", "test")
    rng = np.random.default_rng(0)
    model = LabelDist(rng.random(docs.gold.shape), docs.labels, docs.ids, "model")
    table = people_ceiling(docs, [model], n_boot=0)
    direct = unbiased_brier([model], docs, 0)
    np.testing.assert_allclose(
        overall(table, "unbiased_brier").value["model"],
        overall(direct, "unbiased_brier").value["model"],
        rtol=1e-6,
    )
    assert set(table.columns) == set(direct.columns)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda d: beta_binomial(d).interval(d, 95), "level must be a number from 0 to 1, got 95"),
        (lambda d: dawid_skene(d, -1), "pseudo_votes must be a number of at least 0, got -1"),
        (lambda d: people_ceiling(d, n_folds=1), "n_folds must be a whole number from 2"),
        (lambda d: people_ceiling(d.take(range(5)), n_folds=6), "n_folds must be a whole number from 2 to 5"),
        (lambda d: people_ceiling(d, [d.take(range(5)).human()]), "are not those of demo test"),
        (
            lambda d: unbiased_brier(d.human(), replace(d, votes=d.votes[:0], vote_doc=d.vote_doc[:0])),
            "has no votes",
        ),
    ],
)
def test_bad_input_gets_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(load_docs("demo", "test"))
    assert "\n" not in str(error.value)


# ---- where people disagree


def level(table, name):
    return table[table.level == name].set_index("method")


def test_the_ceiling_of_a_corpus_is_what_known_shares_reach(corpus):
    """Shares are drawn in the shape of the corpus, then votes: what the shares reach is estimated from the
    votes alone. Label frequencies correlate over all pairs, and within labels not at all
    """
    fit = beta_binomial(corpus)
    common = np.flatnonzero(fit.to_frame()["mean"] > 0.01)
    truth = np.random.default_rng(0).beta(fit.a[common], fit.b[common], (len(corpus), len(common)))
    docs = drawn(corpus, truth[corpus.vote_doc], 1)
    known = LabelDist(truth, docs.labels, docs.ids, "known")
    prior = replace(known, probs=np.tile(truth.mean(0), (len(docs), 1)), method="prior")
    table = disagreement([known, prior], docs, n_boot=0)
    for name, most in (("within", 0.04), ("pooled", 0.05), ("document", 0.06)):
        rows = level(table, name).value
        print(f"{corpus.name}, {name}: {rows.round(3).to_dict()}")
        assert abs(rows["true_shares"] - rows["known"]) < most
    assert np.isnan(level(table, "within").value["prior"]) and level(table, "pooled").value["prior"] > 0.05


def test_ceilings_of_real_votes(corpus):
    "They lie between 0 and 1; halves need documents with four votes"
    table = disagreement(corpus.human(), corpus, n_boot=0)
    np.testing.assert_allclose(level(table, "within").value["human"], 1)
    ceiling = level(table, "within").value["true_shares"]
    print(f"{corpus.name}: ceiling {ceiling:.2f}, halves {level(table, 'pooled').value['split_half']:.2f}")
    assert 0.1 < ceiling < 0.9
    assert np.isnan(level(table, "pooled").value["split_half"]) == ((corpus.n_annotators >= 4).sum() < 20)


def test_intervals_hold_the_correlation_of_many_documents():
    def sample(seed, n_docs):
        rng = np.random.default_rng(seed)
        truth = rng.beta(0.4, 1.2, (n_docs, 2))
        p = np.clip(truth + rng.normal(0, 0.2, truth.shape), 0.001, 0.999)
        doc, ids = np.repeat(np.arange(n_docs), 3), tuple(map(str, range(n_docs)))
        votes = (rng.random((len(doc), 2)) < truth[doc]).astype(np.float32)
        names, who = LabelSet(("x", "y")), doc.astype(str)
        docs = AnnotatedDocs("made", "test", names, ids, ids, truth > 0.5, votes, doc, who)
        return LabelDist(p, names, ids, "p"), docs

    many = level(disagreement(*sample(0, 40_000), n_boot=0, ceilings=False), "within").value["p"]
    held = []
    for seed in range(1, 61):
        row = level(disagreement(*sample(seed, 250), n_boot=200, ceilings=False), "within").loc["p"]
        held.append(row.lo <= many <= row.hi)
    assert 0.87 <= np.mean(held) <= 1


def test_every_draw_is_the_correlation_of_the_documents_that_it_holds():
    rng = np.random.default_rng(3)
    x, y = label_entropy(rng.random(40).round(1)), label_entropy(rng.integers(0, 4, 40) / 3)
    weights = bootstrap_weights(40, 20)
    slow = [
        pd.Series(np.repeat(x, w)).corr(pd.Series(np.repeat(y, w)), "spearman") for w in weights.astype(int)
    ]
    np.testing.assert_allclose(weighted_spearman(x, y, weights), slow, atol=1e-9)


def test_label_frequencies_are_constant_within_labels():
    docs = load_docs("demo", "test")
    table = disagreement(reference_dists(docs, load_docs("demo", "train")), docs, n_boot=20)
    assert level(table, "within").value[["prior", "constant", "uniform"]].isna().all()
    assert level(table, "pooled").value[["constant", "uniform"]].isna().all()
    assert 0 < level(table, "document").value["true_shares"] < 1
