"""The files that the gateway runs on, kept in its store's folder for the day when the technician's are bad. Shell.

Owns one zip file, LAST_GOOD: gateway.toml, the sheet and the site's own profiles, byte for byte; certificates and keys
stay where they are. It is replaced whole or not at all. Must never judge what it keeps: who takes it out reads it as
any other files.
"""

import os
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from edge.store import faults, sync_directory

LAST_GOOD = "last-good.zip"
# Where gateway.toml is no TOML any more, its line is most often still there.
_STORE_LINE = re.compile(r"""(?m)^\s*\[\s*store\s*\].*\n(?:(?!\s*\[).*\n)*?\s*path\s*=\s*["']([^"'\n]+)["']""")


def packed(files: Mapping[str, bytes]) -> bytes:
    """Names and contents as one zip file."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return archive.getvalue()


def keep(folder: Path, archive: bytes) -> None:
    """Put it in the place of the one before; it is on disk when this returns. StoreFault where it cannot be."""
    path = folder / LAST_GOOD
    new = folder / f"{LAST_GOOD}.new"
    with faults(path):
        with new.open("wb") as file:
            file.write(archive)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_directory(folder)


def find(gateway_toml: Path) -> tuple[Path, dict[str, bytes]] | None:
    """Where the kept files of this gateway.toml lie, whatever has become of it, and the files; None without any."""
    for folder in _store_folders(gateway_toml):
        path = folder / LAST_GOOD
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return path, {name: archive.read(name) for name in archive.namelist()}
    return None


def _store_folders(gateway_toml: Path) -> Iterator[Path]:
    """Where the store may be: by what is left of gateway.toml, by systemd's StateDirectory=, and by the example."""
    folder = gateway_toml.absolute().parent
    text = ""
    with suppress(OSError):
        text = gateway_toml.read_bytes().decode("utf-8-sig", "replace")
    with suppress(tomllib.TOMLDecodeError, KeyError, TypeError):
        yield folder / tomllib.loads(text)["store"]["path"]
    if line := _STORE_LINE.search(text):
        yield folder / line[1]
    yield from (Path(each) for each in os.environ.get("STATE_DIRECTORY", "").split(":") if each)
    yield folder / "store"
