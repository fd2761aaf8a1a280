"""The demo's screen against golden screens, drawn in both languages, at 98 x 27 and at 80 x 24 cells.

The Chinese one at 98 cells is the design's own picture of the screen.
"""

import gettext
from dataclasses import fields, replace
from pathlib import Path

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from rich.cells import cell_len

from hil_tests.bench.ledger import Figures
from hil_tests.demo_screen import Hop, Row, View, lines, plain, wrapped

CATALOGUE = Path(__file__).parents[2] / "edge/locale/zh_CN/LC_MESSAGES/tankgate.po"
SCREENS = Path(__file__).parent / "screens"
NO_REPLY = 200
NEVER_READ = 222


@pytest.fixture
def speak(tmp_path, monkeypatch):
    """Sets the language of the screen: "zh" or "en"."""
    compiled = tmp_path / "zh_CN/LC_MESSAGES/tankgate.mo"
    compiled.parent.mkdir(parents=True)
    with CATALOGUE.open("rb") as po, compiled.open("wb") as mo:
        write_mo(mo, read_po(po))
    before = gettext.textdomain(), gettext.bindtextdomain("tankgate")
    gettext.bindtextdomain("tankgate", str(tmp_path))
    gettext.textdomain("tankgate")
    yield lambda language: monkeypatch.setenv("LANGUAGE", {"zh": "zh_CN", "en": "en"}[language])
    gettext.textdomain(before[0])
    gettext.bindtextdomain("tankgate", before[1])


def tank(name, truth, received, state, to_high_high_s=None, age_ms=900, high=12.5, limits=(10.8, 11.4, 12.2)):
    kinds = zip(("H", "HH", "CH"), limits, strict=True)
    low = (("LL", 1.0), ("L", 1.5))
    return Row(name, "m", 3, 0, high, (*low, *kinds), truth, received, 0, age_ms, state, to_high_high_s)


def gas(name, truth, received, age_ms, status=0, unit="%LEL", decimals=1, limits=(25, 50)):
    kinds = tuple(zip(("H", "HH"), limits, strict=True))
    return Row(name, unit, decimals, 0, 100, kinds, truth, received, status, age_ms)


def books(**counts):
    """The ledger's figures; what is not given is 0."""
    return Figures(**{field.name: 0 for field in fields(Figures)} | counts)


def view(language):
    """The moment that the design's picture shows."""
    words = {
        "zh": (
            ("22 个点", "仿真 RS-485", "应答 667"),
            ("板 cab1 cab2", "MicroPython 1.29", "环中 3"),
            ("网关", "判报警", "待提交 3"),
            ("磁盘", "SQLite", "存 664"),
            ("MQTT 5", "iotcore", "在途 6"),
            ("区平台", "去重后", "收 198"),
            ("进料", "静止", "出料"),
            "10:29:58 你按了 1：GD05 断线。2 个周期内变无效：不是 0，不是旧值。查电源、地址、A/B 线",
            "10:29:31 你按了 2：网关被 kill -9，2.1 s 后重启，补齐 31 条，丢失 0，报警状态仍在",
        ),
        "en": (
            ("22 points", "sim. RS-485", "answered 667"),
            ("board cab1 cab2", "MicroPython 1.29", "in ring 3"),
            ("gateway", "to readings", "to commit 3"),
            ("disk", "SQLite", "stored 664"),
            ("MQTT 5", "iotcore", "in flight 6"),
            ("district", "dedup", "received 198"),
            ("filling", "still", "emptying"),
            "10:29:58 you pressed 1: GD05 is cut off. Invalid within 2 cycles: not 0, not the last value; "
            "check supply, address and the A/B wires",
            "10:29:31 you pressed 2: the gateway was killed (-9), is back after 2.1 s; 31 made up, 0 lost",
        ),
    }[language]
    filling, still, emptying = words[6]
    b_tanks = {"high": 9.5, "limits": (8.2, 8.7, 9.3)}
    ammonia = {"unit": "ppm", "decimals": 0, "limits": (30, 60)}
    return View(
        site="示例化工 1# 罐区",
        gateway="jt-0042",
        elapsed_s=47,
        hops=tuple(Hop(*hop) for hop in words[:6]),
        figures=books(due=204, received=198, in_flight=6, p99_ms=940),
        tanks=(
            tank("TK101 甲醇", 8.412, 8.412, filling, 38 * 60),
            tank("TK102 甲醇", 3.207, 3.207, still),
            tank("TK103 甲苯", 10.866, 10.865, filling, 9 * 60, age_ms=1100),
            tank("TK104 甲苯", 5.070, 5.070, emptying, age_ms=1000),
            tank("TK105 丙酮", 6.114, 6.114, still, age_ms=1000, **b_tanks),
            tank("TK106 氨水", 7.300, 7.300, still, age_ms=1100, **b_tanks),
        ),
        gases=(
            gas("GD01 罐区A", 1.0, 1.0, 500),
            gas("GD02 罐区A", 1.0, 1.0, 500),
            gas("GD05 装车台", 3.1, None, 6100, status=NO_REPLY),
            gas("GD06 装车台", 2.0, 2.0, 600),
            gas("GD07 泵房", 52.5, 52.5, 100),
            gas("GD08 氨罐北", 4, 4, 700, **ammonia),
        ),
        events=words[7:],
    )


def the_line(shown, text, width=98, height=27):
    """The one line of the screen that starts with this."""
    (line,) = (line for line in lines(shown, width, height) if line.plain.strip().startswith(text))
    return line


@pytest.mark.parametrize(("width", "height"), [(98, 27), (80, 24)])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_screen_is_the_golden_one(speak, language, width, height):
    speak(language)
    drawn = lines(view(language), width, height)
    golden = (SCREENS / f"{language}_{width}.txt").read_text(encoding="utf-8").splitlines()
    assert [line.plain.rstrip() for line in drawn] == golden
    assert len(drawn) == height
    assert max(line.cell_len for line in drawn) <= width


@pytest.mark.parametrize("language", ["zh", "en"])
def test_80_columns_leave_the_truth_out(speak, language):
    speak(language)
    shown = replace(view(language), tanks=(tank("TK101", 1.111, 2.222, ""),))
    assert any("1.111" in line.plain for line in lines(shown, 98, 27))
    assert not any("1.111" in line.plain for line in lines(shown, 80, 24))


@pytest.mark.parametrize(("age_ms", "status"), [(6100, NO_REPLY), (None, NEVER_READ)])
def test_what_is_bad_is_hatched_and_never_a_number(speak, age_ms, status):
    speak("en")
    line = the_line(replace(view("en"), gases=(gas("GD05", 3.1, None, age_ms, status),)), "GD05").plain
    assert "invalid" in line
    assert "╱" * 26 in line
    assert not {"█", "·"} & set(line)
    assert not any(character.isdigit() for character in line[26:38])


def test_a_bar_marks_its_limits_and_shows_which_are_passed(speak):
    speak("en")
    row = gas("GD10", 50, 50, 100, limits=(30, 60))
    assert the_line(replace(view("en"), gases=(row,)), "GD10").plain[47:73] == "████████┃████···│·········"


@pytest.mark.parametrize("wrong", [{"lost": 8}, {"duplicated": 1}, {"wrong_values": 2}])
def test_a_ledger_that_does_not_balance_is_red(speak, wrong):
    speak("zh")
    clean = view("zh")
    broken = replace(clean, figures=replace(clean.figures, **wrong))

    def reds(shown):
        return [span for line in lines(shown, 98, 27) for span in line.spans if "on red" in str(span.style)]

    assert reds(clean) == []
    line = the_line(broken, "按现场真值对账")
    (span,) = reds(broken)
    assert line.plain[span.start : span.end].endswith(str(*wrong.values()))


def test_the_ledger_line_keeps_every_count_at_80_cells(speak):
    speak("en")
    figures = books(
        due=20400, received=20382, in_flight=10, lost=8, wrong_values=2, p99_ms=None
    )
    line = the_line(replace(view("en"), figures=figures), "due", 80, 24).plain
    assert line.strip() == "due 20400 received 20382 in flight 10 lost 8 duplicated 0 wrong 2 p99 —"


def test_what_a_gap_admits_is_shown_and_is_not_red(speak):
    speak("en")
    line = the_line(replace(view("en"), figures=books(admitted=31)), "By the truth")
    assert "in gaps 31" in line.plain
    assert not any("on red" in str(span.style) for span in line.spans)


def test_the_rows_in_trouble_are_among_the_four(speak):
    speak("en")
    rows = [gas(f"GD{n:02d}", 1, 1, 500) for n in range(1, 11)]
    rows[2] = gas("GD03", 1, None, 500, NO_REPLY)
    rows = tuple(rows)
    shown = [line.plain[1:5] for line in lines(replace(view("en"), gases=rows), 98, 27)]
    assert [name for name in shown if name.startswith("GD")] == ["GD03", "GD08", "GD09", "GD10"]
    every = lines(replace(view("en"), gases=rows, expanded=True), 98, 27)
    assert sum(line.plain.startswith(" GD") for line in every) == 10
    assert not any("TK101" in line.plain for line in every)


def test_hidden_trouble_is_counted(speak):
    speak("en")
    rows = tuple(gas(f"GD{n:02d}", 1, None, 500, NO_REPLY) for n in range(1, 11))
    shown = lines(replace(view("en"), gases=rows), 98, 27)
    assert any("6 more, 6 not normal" in line.plain for line in shown)


@pytest.mark.parametrize("height", range(20, 40))
def test_it_always_fits_and_always_shows_the_keys(speak, height):
    speak("zh")
    drawn = lines(view("zh"), 98, height)
    assert len(drawn) <= height
    if height >= 21:
        assert "q 退" in drawn[-1].plain
        assert len(drawn) == height


def test_without_a_terminal_there_is_one_line(speak):
    speak("en")
    line = plain(view("en"))
    assert "\n" not in line
    assert "lost 0" in line
    assert "GD05 装车台 invalid" in line


@pytest.mark.parametrize("width", [10, 11, 40])
def test_wrapped_lines_lose_nothing_and_fit(width):
    text = "10:29:58 你按了 1：GD05 断线。2 个周期内变无效：不是 0，不是旧值。check supply, A/B wires"
    folded = wrapped(text, width)
    assert "".join("".join(folded).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in folded)
