__version__ = "0.1.0"

from importlib import import_module

# what `from mlcllm import …` finds, and the module that holds it: loaded when it is asked for first
_HOMES = {
    "AnnotatedDocs": "data",
    "DATASETS": "data",
    "LabelDist": "data",
    "LabelSet": "data",
    "load_docs": "data",
    "load_engine": "engines",
    "PromptConfig": "stepwise_logits",
    "StepTrace": "stepwise_logits",
    "compare": "metrics",
    "score": "metrics",
    "METHODS": "alignment",
    "estimate": "alignment",
    "Estimator": "estimator",
    "load_calibration": "calibration",
    "save_calibration": "calibration",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'mlcllm' has no attribute {name!r}")
    found = getattr(import_module(f"mlcllm.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__():
    return sorted([*globals(), *_HOMES])
