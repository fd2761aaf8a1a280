"""Whether a technician is told everything about what is wrong with the site's files. Shell.

config_mistakes_explained: of forty seeded mistakes (tests/edge/mistakes.py, where the answers stand by hand) those that
are told whole, in Chinese and in English, alone and where many are made at once.
"""

import gettext
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from tests.edge.mistakes import MISTAKES, judge
from tests.figures.figure import Measured

_LOCALE = Path(__file__).parents[2] / "edge" / "locale"


def explained() -> Measured:
    """config_mistakes_explained."""
    gettext.bindtextdomain("tankgate", _LOCALE)
    gettext.textdomain("tankgate")
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ):
        missing = judge(Path(folder), lambda language: os.environ.update(LANGUAGE=language))
    untold = [f"{MISTAKES[at].code}: {sentences[0]}" for at, sentences in missing.items() if sentences]
    together = sum(not mistake.alone for mistake in MISTAKES)
    beside = f"of {len(MISTAKES)} mistakes; {together} of them also all at once"
    return Measured(len(MISTAKES) - len(untold), "; ".join([beside, *untold]))
