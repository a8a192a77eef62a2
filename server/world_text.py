"""Writes a recording as a world file; the format is described in docs/world.md. Pure text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from virtbackupd.server.recording import (
    CLUSTER,
    RecordedCheckpoint,
    RecordedDisk,
    RecordedDomain,
    RecordedHost,
    RecordedLayer,
    Recording,
)

Contents: TypeAlias = Literal["pattern", "blank"]
"""What stands on disks, whose real contents are not recorded."""
MAX_CONTENTS: Final = 16 << 30
"""As much of one disk as a world file may describe as filled."""
_ESCAPES: Final = {
    ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r",
    **{code: f"\\u{code:04x}" for code in (*range(9), 11, 12, *range(14, 32), 127)},
}  # fmt: skip
Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"


def world_text(recording: Recording, source: str, contents: Contents) -> str:
    """The whole file; `source` says where it comes from."""
    parts = [f"# Recorded from {' '.join(source.split())}\n"]
    parts += _host(recording.host)
    for xml in recording.secrets:
        parts += ["\n[[secrets]]\n", _entry("xml", xml)]
    described: set[str] = set()
    for domain in recording.domains:
        parts += _domain(domain, contents, described)
    return "".join(parts)


def _host(host: RecordedHost) -> Iterator[str]:
    yield "\n[host]\n"
    for key, value in host._asdict().items():
        if value:
            yield _entry(key, value)


def _domain(domain: RecordedDomain, contents: Contents, described: set[str]) -> Iterator[str]:
    yield "\n[[domains]]\n"
    yield _entry("name", domain.name)
    yield _entry("uuid", domain.uuid)
    yield _entry("state", domain.state)
    if domain.autostart:
        yield _entry("autostart", value=True)
    if not domain.persistent:
        yield _entry("persistent", value=False)
    yield _entry("xml", domain.xml)
    if domain.live_xml is not None:
        yield _entry("live_xml", domain.live_xml)
    for disk in domain.disks:
        yield from _disk(disk, contents, described)
    for checkpoint in domain.checkpoints:
        yield from _checkpoint(checkpoint)


def _disk(disk: RecordedDisk, contents: Contents, described: set[str]) -> Iterator[str]:
    """An image that several disks show is described by the first of them only."""
    yield "\n[[domains.disks]]\n"
    yield _entry("target", disk.target)
    if disk.path in described:
        return
    seed = len(described) + 1
    described.update((disk.path, *(layer.path for layer in disk.backing)))
    yield _entry("size", _whole_sectors(disk.size))
    yield _entry("format", disk.format)
    if disk.data_store is not None:
        yield _entry("data_store", {"path": disk.data_store})
    if disk.backing:
        yield _entry("backing", _backing(disk.backing, _whole_sectors(disk.size)))
    length = min(disk.allocation, disk.size, MAX_CONTENTS) // CLUSTER * CLUSTER
    if contents == "pattern" and length:
        yield _entry("written", [{"offset": 0, "length": length, "seed": seed}])


def _backing(layers: Sequence[RecordedLayer], size: int) -> Mapping[str, Value]:
    """Blank images as large as the disk: what is in them nobody tells."""
    first, *rest = layers
    entry: dict[str, Value] = {"path": first.path, "format": first.format, "size": size}
    if rest:
        entry["backing"] = _backing(rest, size)
    return entry


def _whole_sectors(size: int) -> int:
    return max(512, -(-size // 512) * 512)


def _checkpoint(checkpoint: RecordedCheckpoint) -> Iterator[str]:
    yield "\n[[domains.checkpoints]]\n"
    yield _entry("name", checkpoint.name)
    if checkpoint.parent is not None:
        yield _entry("parent", checkpoint.parent)
    yield _entry("xml", checkpoint.xml)
    if checkpoint.bitmaps:
        yield _entry("bitmaps", checkpoint.bitmaps)
    if checkpoint.changes:
        yield _entry(
            "written",
            [
                {"disk": target, "offset": offset, "length": length, "byte": 1}
                for target, offset, length in checkpoint.changes
            ],
        )


def _entry(key: str, value: Value) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _long(value) if "\n" in value else f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {pairs} }}"
    return f"[{', '.join(map(_value, value))}]"


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else f'"{key.translate(_ESCAPES)}"'


def _long(text: str) -> str:
    """As it is between three quotes, unless something in it forbids that."""
    strange = any(code in _ESCAPES for code in map(ord, text) if chr(code) not in '\n\t"\\')
    if strange or "'''" in text or text.endswith("'"):
        return f'"{text.translate(_ESCAPES)}"'
    return f"'''\n{text}'''"
