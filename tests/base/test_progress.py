"""What people and logs are told of long work."""

import io
import logging

import pytest

import covertreex as cx
from covertreex.base import progress


class Clock:
    """A clock that stands still but for what a test adds."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_log_is_told_how_long_it_will_take(clock, caplog):
    with caplog.at_level(logging.INFO, logger="covertreex"), progress.Progress("factors", 1000) as work:
        for _ in range(5):
            clock.now += 4.0
            work.advance(100)
    assert [record.message for record in caplog.records] == [
        "factors: 30 %, about 28 s left",
    ]
    assert caplog.records[0].name == "covertreex"


def test_the_log_is_told_what_was_done(caplog):
    with caplog.at_level(logging.DEBUG, logger="covertreex"):
        cx.cover_tree([[0.0], [1.0], [3.0]], kernel=cx.RBF(), inducing=1).search(1)
    said = [record.message for record in caplog.records]
    assert any(line.startswith("factors: 3 of 3 in ") for line in said)
    assert any(line.startswith("k = 1 for 3 points: ") and ", backend " in line for line in said)


def test_nothing_is_said_unasked(clock, capfd):
    with progress.Progress("factors", 10) as work:
        clock.now += 100.0
        work.advance(5)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_after_two_seconds(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.Progress("factors", 10) as work:
        work.advance(1)
        assert terminal.getvalue() == ""
        clock.now += 3.0
        work.advance(1)
    assert "factors" in terminal.getvalue()
    assert "20%" in terminal.getvalue()
