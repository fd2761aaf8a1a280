"""One target under Atheris, as a process of its own: run.py starts it. Shell."""

import gettext
import sys
from importlib import import_module
from pathlib import Path

import atheris

from tests.fuzz.table import TARGETS


def main(target: str, corpus: Path, options: list[str]) -> None:
    """Fill `corpus` with the target's seeds and hand over to libFuzzer, which ends the process."""
    gettext.gettext = str  # it would look for a catalogue on disk at each sentence
    with atheris.instrument_imports(include=list(TARGETS[target].parsers)):
        module = import_module(f"tests.fuzz.targets.{target}")
    for number, seed in enumerate(module.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = corpus.with_name("words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in ("\n", *TARGETS[target].words)))  # never empty
    options = [f"-max_len={TARGETS[target].max_bytes}", f"-dict={words}", *options]
    atheris.Setup([sys.argv[0], *options, str(corpus)], module.run_one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02X}" for byte in word.encode())


main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
