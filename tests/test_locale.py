"""Every sentence is there in Chinese, whole, with its figures, and with one word a term."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[1]
PO = ROOT / "edge" / "locale" / "zh_CN" / "LC_MESSAGES" / "tankgate.po"
PACKAGES = ("edge", "protocols", "hil_tests")
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|\{\w*(?:![rs])?(?::[^{}]*)?\}")
LITERAL = re.compile(r"`[^`]*`|\[\w+\]|--[\w-]+|\b\w+\.(?:toml|csv)")  # what a reader types as it stands
TERM = re.compile(r"term: (.+?) = (.+)")


def first(message: str | tuple[str, ...]) -> str:
    return message if isinstance(message, str) else message[0]


def sentences(folder: Path) -> dict[str, str]:
    """Every msgid in a folder, and a file that says it."""
    found = extract_from_dir(folder, method_map=[("**.py", "python")])
    return {first(message): f"{folder.name}/{file}" for file, _, message, _, _ in found}


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return {english: file for package in PACKAGES for english, file in sentences(ROOT / package).items()}


@pytest.fixture(scope="module")
def clicks() -> dict[str, str]:
    """What Click says to the users of our commands; the catalogue speaks for it too."""
    return sentences(Path(click.__file__).parent)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file, abort_invalid=True)


def entries(catalog: Catalog) -> list[tuple[str, str, Message]]:
    return [(first(entry.id), first(entry.string), entry) for entry in catalog if entry.id]


def test_every_sentence_is_translated(ours, clicks, catalog):
    known = {english for english, chinese, entry in entries(catalog) if chinese.strip() and not entry.fuzzy}
    missing = {english: file for english, file in (ours | clicks).items() if english not in known}
    assert not missing


def test_nothing_is_translated_that_nobody_says(ours, clicks, catalog):
    assert not [english for english, _, _ in entries(catalog) if english not in ours | clicks]


def test_sentences_are_english_in_the_sources(ours):
    assert not [english for english in ours if re.search("[\u4e00-\u9fff]", english)]


def test_no_sentence_is_put_together_before_it_is_translated():
    """`_(f"...")` and `_("..." + x)` would never be found in the catalogue."""
    made = re.compile(r"""\b_\(\s*(?:f["']|"[^"\n]*"\s*[+%]).*""")
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert not [f"{path}: {call}" for path in sources for call in made.findall(path.read_text("utf-8"))]


def test_no_sentence_hides_in_another(ours):
    """Inside an f-string babel does not see it."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name("_"), args=[ast.Constant(sentence)]):
                    assert sentence in ours, f"{path}:{node.lineno}"


def test_placeholders_are_equal(ours, catalog):
    for english, chinese, _ in entries(catalog):
        if english in ours:
            assert set(PLACEHOLDER.findall(english)) == set(PLACEHOLDER.findall(chinese)), english


def test_one_term_has_one_word(ours, catalog):
    """The glossary is the head of the catalogue: `term: backlog = 积压`."""
    terms = TERM.findall(catalog.header_comment)
    assert len(terms) > 30
    for english, chinese, _ in entries(catalog):
        if english not in ours:
            continue
        plain = LITERAL.sub("", PLACEHOLDER.sub("", english))
        for term, words in terms:
            if re.search(rf"(?<![\w.-]){term}s?(?![\w.-])", plain, re.IGNORECASE):
                assert any(word in chinese for word in words.split(" / ")), (term, words, english, chinese)


def tankgate(*arguments: str, **environment: str) -> str:
    """What `tankgate` prints, on either channel."""
    run = subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return run.stdout + run.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--lang", "zh", "--help"], {}),
        (["--help", "--lang=zh"], {}),
        (["--help"], {"LANGUAGE": "zh_CN"}),
        (["--help"], {"LC_ALL": "zh_CN.UTF-8"}),
    ],
)
def test_help_is_chinese(arguments, environment):
    said = tankgate(*arguments, **environment)
    assert "危险化学品" in said
    assert not re.search(r"[A-Z]?[a-z]{4,} [a-z]{2,} ", said), said


def test_clicks_own_sentences_are_chinese():
    assert "没有命令 'lsten'" in tankgate("lsten", "--lang", "zh")
    assert "没有选项 '--foo'" in tankgate("--foo", LANGUAGE="zh_CN")


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("group", ["config", "bench", "trace", "buffer", "board", "unit"])
def test_no_summary_of_a_command_is_cut(group, language):
    said = tankgate(group, "--help", "--lang", language)
    commands = said.partition({"zh": "\n命令:\n", "en": "\nCommands:\n"}[language])[2]
    assert "..." not in commands and re.match(r"  [a-z]+  +\w", commands), said


def test_what_is_no_number_is_told_without_an_english_word():
    said = tankgate("trace", "record", "a", "b", "--seconds", "x", "--lang", "zh")
    assert "'--seconds' 的值无效：'x' 不是所要的数值。" in said
    said = tankgate("trace", "record", "a", "b", "--line", "9600", "--lang", "zh")
    assert "线路参数“9600”：允许的写法如" in said


def without_json(command, name):
    """The commands below this one that have no --json."""
    if isinstance(command, click.Group):
        return {each for part, below in command.commands.items() for each in without_json(below, f"{name} {part}")}
    return set() if any("--json" in param.opts for param in command.params) else {name}


@pytest.mark.parametrize(("readme", "told"), [("README.md", "all have `--json`"), ("README.zh-CN.md", "`--json`。")])
def test_the_readmes_name_every_command_without_json(readme, told):
    others = {"__init__", "moment", "notice", "site", "table"}
    modules = {file.stem for file in (ROOT / "edge" / "cli").glob("*.py")} - others
    commands = {name: import_module(f"edge.cli.{name}").command for name in modules}
    lacking = {each for name, command in commands.items() for each in without_json(command, name)}
    [text] = [text for text in (ROOT / readme).read_text("utf-8").split("\n\n") if told in text]
    assert {name for name in re.findall(r"`([a-z]+ [a-z]+)`", text)} == lacking


def test_english_is_the_default_and_can_be_asked_for():
    assert "Exit codes" in tankgate("--help")
    assert "Exit codes" in tankgate("--help", "--lang", "en", LANGUAGE="zh_CN")


@pytest.mark.parametrize("arguments", [["--lang"], ["--lang", "fr"], ["listen", "--lang=fr"]])
def test_an_unknown_language_is_refused_with_the_known(arguments):
    said = tankgate(*arguments)
    assert "--lang" in said and "Traceback" not in said
    assert arguments == ["--lang"] or "'zh', 'en'" in said
