"The package works where it is installed, without its repository."

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

CODE = """
import mlcllm
from mlcllm import Estimator, load_docs
from mlcllm.step_viewer import *
print(mlcllm.__file__)
print(Estimator("tiny", labels=["joy", "anger"]).predict_proba(["We won!"]).shape)
print(Estimator("small", demos="demo").predict_proba(["We won!"]).shape, len(load_docs("demo", "test")) > 100)
"""


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory):
    "The wheel's files, built from what is part of the repository"
    pytest.importorskip("setuptools")
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    kept = ("mlcllm", "setup.py", "settings.ini", "README.md", "LICENSE")
    for name in kept:
        path = root / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(built)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_package_data_are_part_of_the_wheel(root, installed):
    package = root / "mlcllm"
    data = [p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert len(data) > 40
    for path in data:
        assert (installed / "mlcllm" / path.relative_to(package)).is_file(), path


def test_it_estimates_from_another_folder(installed, tmp_path):
    env = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    where, zero_shot, demo = done.stdout.splitlines()
    assert where.startswith(str(installed)) and (zero_shot, demo) == ("(1, 2)", "(1, 7) True")
    assert list(tmp_path.iterdir()) == []
