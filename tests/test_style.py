"Code breathes: one statement a line, lines of at most 110 characters, nothing imported in vain."

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUFF = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")


@pytest.mark.parametrize("task", [["check"], ["format", "--check"]], ids=["rules", "format"])
def test_notebooks_and_tests_keep_the_style(task):
    done = subprocess.run([RUFF, *task, "nbs", "tests"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
