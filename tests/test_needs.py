"""A test whose tool is missing is skipped by name; with CI=true it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.needs("sh")
def test_with_a_shell(): pass

@pytest.mark.needs("sh", "no-such-tool")
def test_with_what_nobody_has(): assert False, "ran"
"""


@pytest.mark.parametrize(("ci", "ends"), [("false", "1 skipped"), ("true", "1 error")])
def test_a_missing_tool_is_named(tmp_path, ci, ends):
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_two.py").write_text(TESTS, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    said = run.stdout.splitlines()
    assert "1 passed" in said[-1] and ends in said[-1]
    assert said[said.index("no-such-tool: 1") + 1].strip() == "test_two.py::test_with_what_nobody_has"
    assert run.returncode == (ci == "true")
