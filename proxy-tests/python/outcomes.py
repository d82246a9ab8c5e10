"""A pytest plugin that writes every test's outcome, one JSON line `[name, outcome, why]` a test, to $SUITE_OUTCOMES.

It knows nothing of the suites and of the gate. A line is written as soon as its test is over, so a run that hangs tells
where. An outcome is ok, failed, error (in setting up or tearing down) or skipped, the worst of the test's phases.
"""

import json
import os

ORDER = ["ok", "skipped", "failed", "error"]
worst: dict[str, tuple[str, str]] = {}


def pytest_runtest_logreport(report) -> None:
    name = report.nodeid
    outcome = {"passed": "ok", "failed": "failed" if report.when == "call" else "error"}.get(report.outcome, "skipped")
    before = worst.get(name, ("ok", ""))
    # Parts of a test (subtests) report under its name, too.
    if ORDER.index(outcome) > ORDER.index(before[0]):
        lines = report.longreprtext.strip().splitlines() if report.failed else []
        worst[name] = (outcome, lines[-1] if lines else "")
    else:
        worst[name] = before
    if report.when == "teardown":
        with open(os.environ["SUITE_OUTCOMES"], "a", encoding="utf-8") as file:
            print(json.dumps([name, *worst[name]]), file=file)


def pytest_collectreport(report) -> None:
    if report.failed:
        with open(os.environ["SUITE_OUTCOMES"], "a", encoding="utf-8") as file:
            print(json.dumps([report.nodeid, "error", "not collected"]), file=file)
