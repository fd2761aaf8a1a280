"""Where the programs are that figures start. Shell."""

import os
import sysconfig
from pathlib import Path


def find() -> None:
    """Put into PATH what came with a package, and daemons that a plain user's PATH does not show."""
    postgres = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin", *postgres])
