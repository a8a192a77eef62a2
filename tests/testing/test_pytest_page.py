"""Every Python example of the page about pytest is run, by pytest or as a program."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pytest.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
TESTS = [text for text in EXAMPLES if "def test_" in text]
PROGRAMS = [text for text in EXAMPLES if "def test_" not in text]


def test_page_has_both_kinds() -> None:
    assert TESTS
    assert PROGRAMS


def test_examples_for_pytest_pass(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    pytester.makepyfile(**{f"test_{number}": text for number, text in enumerate(TESTS)})
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=len(TESTS))


@pytest.mark.parametrize("text", PROGRAMS)
def test_examples_without_pytest_run(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
