"""Every prompt as it was once read by eye: dataset x format x {0, 1, 2, 3 labels} x {plain, chat}.

A change shows as a diff. If it is wanted, `python tests/test_golden.py` stores the new prompts; read them
before committing.
"""

import difflib
from pathlib import Path

import numpy as np
import pytest

from mlcllm.corpora import LETTERS, MORAL_FOUNDATIONS, PRIMARY_EMOTIONS, SECONDARY_EMOTIONS, TREC_LABELS
from mlcllm.data import CLUSTERS, HATE_LABELS, TARGETS, AnnotatedDocs, LabelSet
from mlcllm.more_corpora import ABUSE_KINDS, ABUSE_LEVELS, RED_EMOTIONS
from mlcllm.prompts import build_prompts, get_template

STORED = Path(__file__).parent / "golden"
EMOTIONS = "anger anticipation disgust fear joy love optimism pessimism sadness surprise trust".split()
TASKS = {
    name: LabelSet(tuple(sorted(labels)), multi, multi)
    for name, labels, multi in [
        ("demo", CLUSTERS, True),
        ("GoEmotions", CLUSTERS, True),
        ("SemEval", EMOTIONS, True),
        ("MFRC", MORAL_FOUNDATIONS, True),
        ("HateXplain", HATE_LABELS, False),
        ("HateXplainTargets", TARGETS, True),
        ("MSPPodcast", [n.lower() for n in PRIMARY_EMOTIONS], False),
        ("MSPPodcast multi", [n.lower() for n in SECONDARY_EMOTIONS], True),
        ("QueerReclaimLex", ["harm", "no harm"], False),
        ("QueerReclaimLex multi", ["ingroup harm", "outgroup harm"], True),
        ("Boxes", ["book", "coin", "rock", "string"], True),
        ("MMLUPro", LETTERS, False),
        ("TREC", TREC_LABELS.values(), False),
        ("ConvAbuse", ABUSE_KINDS, True),
        ("ConvAbuse single", ABUSE_LEVELS, False),
        ("REDv2", [n for n in RED_EMOTIONS if n != "neutral"], True),
        ("mine.csv", ["b", "a", "c"], True),
        ("mine-single.csv", ["b", "a", "c"], False),
    ]
}
FORMATS = ("comma", "json", "polysyndeton", "json-labels", "<{label}; {label}>")


class Chat:
    "Turns by a template that shows everything"

    chat_template = "shown"

    def apply_chat_template(self, turns, tokenize, add_generation_prompt):
        return "".join(f"[{t['role']}]{t['content']}[end]\n" for t in turns) + "[assistant]"


def docs_of(name, labels):
    """Four solved documents with 0, 1, 2 and 3 labels (one each in a single-label task), in this order, and
    one to ask about
    """
    counts = [min(k, len(labels)) for k in range(4)] if labels.multi else [1, 1]
    gold = np.eye(len(labels))[[0, len(labels) - 1]]
    if labels.multi:
        gold = np.array(
            [
                [float(j in [(k + m) % len(labels) for m in range(n)]) for j in range(len(labels))]
                for k, n in enumerate(counts)
            ]
        )

    def make(split, ids, texts, g):
        return AnnotatedDocs(
            name,
            split,
            labels,
            ids,
            texts,
            np.asarray(g),
            np.zeros((0, len(labels))),
            np.zeros(0, int),
            np.zeros(0, str),
        )

    demos = make(
        "train",
        tuple(f"d{k}" for k in range(len(counts))),
        tuple(f'Example {k} says: {{label}}, "$x" & 100 %.' for k in range(len(counts))),
        gold,
    )
    return make("test", ("q",), ("What about this one?",), np.zeros((1, len(labels)))), demos


def prompts():
    out = {}
    for task, labels in TASKS.items():
        docs, demos = docs_of(task.split()[0], labels)
        for family in ("pipeline", "config"):
            for label_format in FORMATS if family == "pipeline" else FORMATS[:1]:
                form = "<{label}>" if label_format.startswith("<") and not labels.multi else label_format
                for chat in (None, Chat()):
                    template = get_template(docs.name, labels.multi, family)
                    p = build_prompts(
                        docs,
                        demos,
                        template,
                        len(demos),
                        label_format=form,
                        rows=[range(len(demos))],
                        chat=chat,
                    )[0]
                    out.setdefault(task, []).append(
                        f"##### {family} · {form} · {'chat' if chat else 'plain'}\n{p.text}\n"
                    )
    return {task: "\n".join(parts) for task, parts in out.items()}


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_those_that_were_read(task):
    stored = (STORED / f"{task}.txt").read_text(encoding="utf-8")
    now = prompts()[task]
    diff = "\n".join(
        difflib.unified_diff(stored.splitlines(), now.splitlines(), "stored", "now", lineterm="")
    )
    assert not diff, f"the prompts of {task} changed; if that is wanted: python tests/test_golden.py\n{diff}"


def test_nothing_is_stored_that_is_not_built():
    assert {p.stem for p in STORED.glob("*.txt")} == set(TASKS)


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for task, text in prompts().items():
        (STORED / f"{task}.txt").write_text(text, encoding="utf-8")
