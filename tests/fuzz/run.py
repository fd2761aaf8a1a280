"""A target fuzzed in a process of its own, or given one input in this one. Shell."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
_INPUT_MAX_S = 60  # on a busy machine
_MEMORY_MAX_MB = 1024


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of it. `failure`: the input that failed, None where none did; `said`: what the fuzzer said of it."""

    executions: int
    per_s: int
    failure: bytes | None
    said: str


def fuzz(target: str, runs: int, seed: int) -> Fuzzed:
    """Run a target with so many inputs, fewer where one fails. RuntimeError where the fuzzer itself does not run."""
    with TemporaryDirectory(prefix="tankgate-fuzz-") as scratch:
        corpus, found = Path(scratch, "corpus"), Path(scratch, "found")
        corpus.mkdir()
        found.mkdir()
        options = {
            "runs": runs,
            "seed": seed,
            "timeout": _INPUT_MAX_S,
            "rss_limit_mb": _MEMORY_MAX_MB,
            "artifact_prefix": f"{found}/",
            "print_final_stats": 1,
            "verbosity": 0,
        }
        process = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.drive", target, str(corpus)),
                *(f"-{name}={value}" for name, value in options.items()),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'firmware'}", "PYTHONHASHSEED": "0", "TMPDIR": scratch},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said = process.stdout + process.stderr
        failures = [file.read_bytes() for file in found.iterdir()]
    if process.returncode and not failures:
        raise RuntimeError(f"{target}: the fuzzer ended with {process.returncode}:\n{said}")
    return Fuzzed(
        executions=_stat(said, "number_of_executed_units"),
        per_s=_stat(said, "average_exec_per_sec"),
        failure=failures[0] if failures else None,
        said=said,
    )


def _stat(said: str, name: str) -> int:
    match = re.search(rf"stat::{name}:\s+(\d+)", said)
    return int(match[1]) if match else 0


def run_one(target: str, data: bytes) -> None:
    """Give the target one input, in this process and without instruments; raises what it raises."""
    import_module(f"tests.fuzz.targets.{target}").run_one(data)


def failure_text(target: str, fuzzed: Fuzzed) -> str:
    """What the fuzzer said, the input that failed, and how to run it again."""
    assert fuzzed.failure is not None
    again = f"PYTHONPATH=firmware .venv/bin/python -m tests.fuzz {target} --input {fuzzed.failure.hex()}"
    return f"{fuzzed.said}\n{target}: this input fails: {fuzzed.failure!r}\nAgain: {again}"
