"Shared by all tests: where real corpora are, if they are."

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library that reads it

settings.register_profile(
    "same", derandomize=True
)  # the same examples in every run; --hypothesis-profile=default draws others
settings.load_profile("same")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def data_root():
    path = Path(os.environ.get("MLCLLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real corpora at {path} (set MLCLLM_TEST_DATA)")
    return path
