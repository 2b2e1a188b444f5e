"""Options and the closing line of the kit's tests."""

from covertreex.testing.plugin import add_backend_option

#: The property that marks a report as one of the kit's.
PROPERTY = "covertreex_check"


def pytest_addoption(parser):
    add_backend_option(parser)


def pytest_terminal_summary(terminalreporter):
    """Say how many checks ran on which backend."""
    counts = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            backend = dict(getattr(report, "user_properties", ())).get(PROPERTY)
            if backend is not None:
                counts.setdefault(backend, dict.fromkeys(("passed", "failed", "skipped"), 0))[outcome] += 1
    for backend, count in counts.items():
        ran = count["passed"] + count["failed"]
        terminalreporter.write_line(
            f"backend {backend!r}: {ran} conformance checks ran: {count['passed']} passed, {count['failed']} failed, "
            f"{count['skipped']} not applicable"
        )
