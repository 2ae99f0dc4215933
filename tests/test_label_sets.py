"""Label-set marginals against brute force and samples, the funnel and forced first labels in every format,
bad input.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import load_engine
from mlcllm.label_sets import (
    choice_funnel,
    forced_first,
    plot_forced_first,
    plot_sets,
    set_marginals,
    set_marginals_global,
)
from mlcllm.stepwise_logits import (
    ListGrammar,
    PromptConfig,
    ask_prompts,
    encode_prompts,
    make_verbalizer,
    parse_answer,
    trace_docs,
)

DOCS, TRAIN = load_docs("demo", "test", n_docs=4), load_docs("demo", "train")


@pytest.fixture(scope="module")
def engine():
    return load_engine("tiny", gpu="cpu")


def setting(engine, docs=DOCS, demos=TRAIN, **how):
    config = PromptConfig(shots=4, **how)
    return make_verbalizer(engine, docs, config), encode_prompts(engine, ask_prompts(docs, demos, config), 24)


def some_labels(docs, n):
    labels = replace(docs.labels, names=docs.labels.names[:n], file_order=None)
    return replace(docs, labels=labels, gold=docs.gold[:, :n], votes=docs.votes[:, :n])


def walk(engine, verbalizer, prompt):
    "P(set) by reading the finished text of every list, one call a token"
    grammar, out = ListGrammar(verbalizer), {}

    def go(written, p):
        options = grammar(written)
        if not options or p < 1e-12:
            names = frozenset(
                parse_answer(verbalizer, engine.tokenizer.decode(written, skip_special_tokens=True)).labels
            ) - {"none"}
            out[names] = out.get(names, 0) + p
            return
        for token, q in zip(
            options, softmax(engine.score([[*prompt, *written]], options).logits[0].astype(float))
        ):
            go((*written, token), p * q)

    go((), 1.0)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_set_marginals_agree_with_brute_force(engine, n):
    docs, demos = some_labels(DOCS, n), some_labels(TRAIN, n)
    verbalizer, prompts = setting(engine, docs, demos, sampling="random")
    exact = walk(engine, verbalizer, prompts[0])
    found = set_marginals(engine, verbalizer, prompts[:1], docs.ids[:1], eps=0, max_nodes=10**6)
    assert found.covered[0] == pytest.approx(1, abs=1e-6)
    for names, p in found.sets[0]:
        assert p == pytest.approx(exact[frozenset(names)], abs=1e-5)
    np.testing.assert_allclose(
        found.dist.probs[0],
        [sum(p for s, p in exact.items() if name in s) for name in docs.labels.names],
        atol=1e-5,
    )


def own_probabilities(engine, verbalizer, prompt):
    "P(set) over the whole vocabulary, by reading the finished text of every list, one call a token"
    grammar, out = ListGrammar(verbalizer), {}

    def go(written, p):
        options = grammar(written)
        if not options:
            names = frozenset(
                parse_answer(verbalizer, engine.tokenizer.decode(written, skip_special_tokens=True)).labels
            ) - {"none"}
            out[names] = out.get(names, 0) + p
            return
        read = engine.score([[*prompt, *written]], options)
        for token, z in zip(options, read.logits[0].astype(float)):
            go((*written, token), p * np.exp(z - read.logsumexp[0]))

    go((), 1.0)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_global_set_marginals_agree_with_brute_force(engine, n):
    docs, demos = some_labels(DOCS, n), some_labels(TRAIN, n)
    verbalizer, prompts = setting(engine, docs, demos, sampling="random")
    exact = own_probabilities(engine, verbalizer, prompts[0])
    total = sum(exact.values())
    found = set_marginals_global(engine, verbalizer, prompts[:1], docs.ids[:1], eps=0, max_nodes=10**6)
    assert found.covered[0] == pytest.approx(1, abs=1e-6) and found.off_grammar[0] == pytest.approx(
        1 - total, abs=1e-5
    )
    assert {frozenset(s) for s, _ in found.sets[0]} == set(exact)
    for names, p in found.sets[0]:
        assert p == pytest.approx(exact[frozenset(names)], abs=1e-5)
    np.testing.assert_allclose(
        found.dist.probs[0],
        [sum(p for s, p in exact.items() if name in s) / total for name in docs.labels.names],
        atol=1e-5,
    )


def test_both_kinds_agree_where_nothing_is_off_the_grammar(engine):
    "With the grammar's tokens alone in the vocabulary, renormalising at each token changes nothing"
    docs, demos = some_labels(DOCS, 3), some_labels(TRAIN, 3)
    verbalizer, prompts = setting(engine, docs, demos, sampling="random")
    grammar = ListGrammar(verbalizer)

    class Closed:
        tokenizer, stats, all_tokens = engine.tokenizer, engine.stats, True

        def score(self, asked, ids):
            got, starts = engine.score(asked, ids), len(prompts[0])
            sums = [
                logsumexp(engine.score([a], grammar(tuple(a[starts:]))).logits[0].astype(float))
                for a in asked
            ]
            return replace(got, logsumexp=np.array(sums))

    local = set_marginals(Closed(), verbalizer, prompts[:1], docs.ids[:1], eps=0)
    free = set_marginals_global(Closed(), verbalizer, prompts[:1], docs.ids[:1], eps=0)
    np.testing.assert_allclose(free.dist.probs, local.dist.probs, atol=1e-5)
    assert free.off_grammar[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("eps, max_nodes", [(0.3, 2000), (0.05, 2000), (1e-3, 7), (1e-3, 1)])
def test_global_bounds_hold_when_stopped_early(engine, eps, max_nodes):
    verbalizer, prompts = setting(engine)
    whole = set_marginals_global(engine, verbalizer, prompts, DOCS.ids, eps=1e-3)
    part = set_marginals_global(engine, verbalizer, prompts, DOCS.ids, eps=eps, max_nodes=max_nodes)
    assert (part.n_nodes <= max_nodes).all() and (max_nodes < 2000 or (part.covered >= 1 - eps).all())
    assert (part.lo <= whole.dist.probs + 2e-3).all() and (part.hi >= whole.dist.probs - 2e-3).all()
    assert len(set_marginals_global(engine, verbalizer, [], ()).dist) == 0


def test_set_marginals_agree_with_100_000_samples(engine):
    verbalizer, prompts = setting(engine)
    grammar, rng, n = ListGrammar(verbalizer), np.random.default_rng(0), 100_000
    here, shares = {(): n}, np.zeros(7)
    while here:
        written, count = here.popitem()
        options = grammar(written)
        if not options:
            shares += (
                count
                / n
                * DOCS.labels.encode(
                    set(
                        parse_answer(
                            verbalizer, engine.tokenizer.decode(written, skip_special_tokens=True)
                        ).labels
                    )
                    - {"none"}
                )
            )
            continue
        for token, c in zip(
            options,
            rng.multinomial(
                count, softmax(engine.score([[*prompts[2], *written]], options).logits[0].astype(float))
            ),
        ):
            if c:
                here[(*written, token)] = here.get((*written, token), 0) + c
    p = set_marginals(engine, verbalizer, prompts[2:3], DOCS.ids[2:3], eps=1e-4).dist.probs[0]
    assert (np.abs(shares - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1e-4).all(), (shares, p)


@pytest.mark.parametrize(
    "label_format", ["json", "comma", "polysyndeton", "json-emotions", "{label}; {label}"]
)
def test_every_format(engine, label_format):
    verbalizer, prompts = setting(engine, label_format=label_format)
    found = set_marginals(engine, verbalizer, prompts, DOCS.ids, eps=0.02)
    assert (
        (found.covered > 0.98).all()
        and (found.lo <= found.dist.probs + 0.021).all()
        and (found.dist.probs <= found.hi + 0.021).all()
    )
    greedy = trace_docs(
        engine,
        verbalizer,
        ask_prompts(DOCS, TRAIN, PromptConfig(shots=4, label_format=label_format)),
        60,
        decoding="constrained",
    )
    for t, sets in zip(greedy, found.sets):
        assert set(t.predicted) in [set(s) for s, _ in sets[:10]], (t.predicted, sets[:10])
    forced = forced_first(engine, verbalizer, prompts, DOCS.ids)
    for k, t in enumerate(greedy):
        if len(t.predicted) > 1:
            np.testing.assert_allclose(
                forced.second[k, DOCS.labels.index(t.predicted[0])], t.logits[1], atol=1e-3
            )
    funnel = choice_funnel(engine, DOCS, TRAIN, PromptConfig(shots=4, label_format=label_format))
    assert not np.isnan(funnel.dist.probs).any() and all(len(set(t)) == len(t) for t in funnel.taken)


def test_labels_that_share_their_first_token(engine):
    names = ("very angry", "very glad", "very sad")
    labels = LabelSet(names)
    docs, demos = (replace(some_labels(d, 3), labels=labels) for d in (DOCS, TRAIN))
    verbalizer, prompts = setting(engine, docs, demos)
    exact = walk(engine, verbalizer, prompts[0])
    found = set_marginals(engine, verbalizer, prompts[:1], docs.ids[:1], eps=0)
    for s, p in found.sets[0]:
        assert p == pytest.approx(exact[frozenset(s)], abs=1e-5)
    assert np.ptp(choice_funnel(engine, docs, demos, PromptConfig(shots=4)).dist.probs) > 0
    assert (
        np.ptp(
            forced_first(engine, verbalizer, prompts, docs.ids, "sequence").after[
                ~np.isnan(forced_first(engine, verbalizer, prompts, docs.ids, "sequence").after)
            ]
        )
        > 0
    )


def test_single_label_marginals_are_a_distribution(engine):
    docs, demos = (
        replace(d, labels=replace(d.labels, allows_none=False, multi=False), gold=np.eye(7)[d.gold.argmax(1)])
        for d in (DOCS, TRAIN)
    )
    verbalizer, prompts = setting(engine, docs, demos, label_format="comma", sampling="uniform")
    found = set_marginals(engine, verbalizer, prompts, docs.ids, eps=0)
    np.testing.assert_allclose(found.dist.probs.sum(1), 1, atol=1e-6)


def test_the_funnel_stops_by_itself_and_asks_without_what_it_took(engine):
    funnel = choice_funnel(engine, DOCS, TRAIN, PromptConfig(shots=4))
    assert funnel.rounds == max(map(len, funnel.taken)) + any(
        len(t) < 7 for t in funnel.taken if len(t) == max(map(len, funnel.taken))
    )
    few = choice_funnel(engine, DOCS, TRAIN, PromptConfig(shots=4), max_rounds=1)
    assert [t[:1] for t in funnel.taken] == [t[:1] for t in few.taken] and few.rounds == 1


def test_bad_input_gives_one_clear_line(engine):
    verbalizer, prompts = setting(engine)
    single = replace(DOCS, labels=replace(DOCS.labels, multi=False))
    for call, says in [
        (lambda: set_marginals(engine, verbalizer, prompts, DOCS.ids[:2]), "4 prompts for 2 documents"),
        (
            lambda: set_marginals(engine, verbalizer, prompts, DOCS.ids, eps=2),
            "eps must be a number from 0 to 1",
        ),
        (
            lambda: set_marginals(engine, verbalizer, prompts, DOCS.ids, max_nodes=0),
            "max_nodes must be a whole number",
        ),
        (lambda: choice_funnel(engine, single, TRAIN), "needs a multi-label task"),
        (lambda: choice_funnel(engine, DOCS, TRAIN, threshold=-1), "threshold must be a number from 0 to 1"),
        (lambda: choice_funnel(engine, DOCS, TRAIN, PromptConfig(chat=True)), "leave chat and cot out"),
        (
            lambda: forced_first(engine, replace(verbalizer, labels=single.labels), prompts, DOCS.ids),
            "needs a multi-label task",
        ),
        (lambda: forced_first(engine, verbalizer, prompts[:1], DOCS.ids), "1 prompts for 4 documents"),
        (lambda: plot_sets(set_marginals(engine, verbalizer, prompts, DOCS.ids), "x"), "no document 'x'"),
    ]:
        with pytest.raises(ValueError) as error:
            call()
        assert says in str(error.value) and "\n" not in str(error.value)
    assert len(set_marginals(engine, verbalizer, [], ()).dist) == 0
    plot_forced_first(forced_first(engine, verbalizer, prompts[:1], DOCS.ids[:1]))
