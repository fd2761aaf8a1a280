"""The soak's command line: what would soak nothing is refused, not passed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_no_time_at_all_is_refused(minutes: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hil_tests.soak", "--minutes", minutes, "--output", str(tmp_path / "soak")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2 and "x>0" in refused.stderr, refused.stderr
    assert not (tmp_path / "soak").exists()
