"""The page of all keys of the configuration, made from their declarations.

`python tests/support/configuration_page.py` rewrites the table in docs/configuration.md
(`make docs`); a test compares the page with what this module makes.
"""

import json
from itertools import groupby
from pathlib import Path

from virtbackupd.server.keys import Key
from virtbackupd.server.settings_file import keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
MARK = "<!-- generated below: `make docs` -->\n"
HEAD = "| key | meaning | values | default |\n|---|---|---|---|\n"


def _default(key: Key) -> str:
    if key.about.default:
        return key.about.default
    value = int(key.default) if isinstance(key.default, bool) else key.default
    return f"`{json.dumps(value)}`"


def _meaning(key: Key) -> str:
    about = key.about
    text = about.text
    if about.no_effect:
        text += f" *No effect: {about.no_effect}.*"
    if about.option:
        text += f" Option `{about.option}`."
    return text + (" *Ours.*" if about.ours else "")


def _row(key: Key) -> str:
    return f"| `{key.name}` | {_meaning(key)} | {key.allowed} | {_default(key)} |\n"


def tables() -> str:
    """One table for each group, groups in the order of their first key."""
    groups = list(dict.fromkeys(key.about.group for key in keys()))
    ordered = sorted(keys(), key=lambda key: groups.index(key.about.group))
    parts = groupby(ordered, key=lambda key: key.about.group)
    return "".join(
        f"\n## {group}\n\n{HEAD}{''.join(map(_row, members))}" for group, members in parts
    )


def page() -> str:
    """The whole page as it should be: what people wrote, then the tables."""
    written, _, _ = PAGE.read_text().partition(MARK)
    return written + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page())
