"""QEMU's command line as it grows: options in order, structured ones as JSON. Knows no device."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


class Arguments:
    """The arguments behind the program's name."""

    def __init__(self) -> None:
        self._list: list[str] = []
        self.drivers: list[str] = []
        """Of all devices, in order."""

    def add(self, *words: str) -> None:
        """As they are."""
        self._list += words

    def option(self, name: str, value: str, **settings: str | None) -> None:
        """`-name value,key=text,...`; settings that are None are left out."""
        self._list += [f"-{name}", option_text(value, settings)]

    def json(self, name: str, props: Mapping[str, Any]) -> None:
        self._list += [f"-{name}", json.dumps(props, separators=(",", ":"))]

    def device(self, props: Mapping[str, Any]) -> None:
        self.drivers.append(str(props["driver"]))
        self.json("device", props)

    def objects(self, objects: Iterable[Mapping[str, Any]]) -> None:
        for props in objects:
            self.json("object", props)

    def all(self) -> list[str]:
        return list(self._list)


def option_text(value: str, settings: Mapping[str, str | None]) -> str:
    """Keys that a Python name cannot be are written with a `_` for each `-`."""
    pairs = [
        f"{key.rstrip('_').replace('_', '-')}={escape(text)}"
        for key, text in settings.items()
        if text is not None
    ]
    return ",".join([value, *pairs] if value else pairs)


def escape(text: str) -> str:
    """A comma separates settings; doubled it stands for itself."""
    return text.replace(",", ",,")


def on_off(value: bool | None) -> str | None:
    return None if value is None else ("on" if value else "off")


def known(**props: Any) -> Json:  # noqa: ANN401 - whatever QEMU takes
    """The properties that have a value; a trailing `_` keeps a key from being a keyword."""
    return {
        key.rstrip("_").replace("__", "-"): value
        for key, value in props.items()
        if value is not None
    }
