"""What an emulator can do: asked once for each binary, kept as long as that binary stays the same.

The questions are put to a QEMU without a machine, over its standard input and output. How the
answers become XML is in `capabilities_xml`.
"""

import json
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from subprocess import PIPE
from typing import Any, Final, TypeAlias

import trio

from virtbackupd.drivers.errors import ConfigUnsupported, InternalError

Json: TypeAlias = dict[str, Any]

DEADLINE: Final = 60.0
_KILL_GRACE: Final = 10.0
KVM_DEVICE: Final = "/dev/kvm"
_QUESTIONS: Final = (
    "qmp_capabilities",
    "query-version",
    "query-target",
    "query-machines",
    "query-cpu-definitions",
    "query-kvm",
)
_DEVICES: Final = {
    "execute": "qom-list-types",
    "arguments": {"implements": "device"},
    "id": "devices",
}
_LAST_ANSWER: Final = b'"id": "devices"'


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    alias: str | None
    max_cpus: int
    default_cpu: str
    deprecated: bool


@dataclass(frozen=True, slots=True)
class QemuCapabilities:
    """The answers of one binary, and whether KVM can be used with it."""

    path: str
    version: tuple[int, int, int]
    package: str
    arch: str
    machines: tuple[Machine, ...]
    cpu_models: tuple[str, ...]
    unavailable_features: dict[str, tuple[str, ...]]
    """By model: what this host cannot give; only the models that miss something."""
    devices: frozenset[str]
    kvm: bool

    @property
    def version_number(self) -> int:
        major, minor, micro = self.version
        return major * 1_000_000 + minor * 1_000 + micro

    @property
    def default_cpu(self) -> str:
        """The model that a machine has when nobody chooses."""
        return next((it.default_cpu for it in self.machines if it.default_cpu), "qemu64")

    def machine(self, name: str) -> Machine:
        """By name or alias; refused with 67 when there is none."""
        for machine in self.machines:
            if name in (machine.name, machine.alias):
                return machine
        raise ConfigUnsupported(f"{self.path} has no machine {name!r}")

    def canonical(self, name: str) -> str:
        """The full name behind an alias such as `q35`."""
        return self.machine(name).name

    def require_devices(self, *drivers: str) -> None:
        """Refuse a device model that this binary was built without."""
        for driver in drivers:
            if driver not in self.devices:
                raise ConfigUnsupported(f"{self.path} has no device {driver!r}")


class CapabilitiesCache:
    """By path; a changed file is asked again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int], QemuCapabilities]] = {}
        self._lock = trio.Lock()

    async def get(self, path: str) -> QemuCapabilities:
        """The binary's answers; ConfigUnsupported when it cannot be run."""
        stamp = await trio.to_thread.run_sync(_stamp, path)
        async with self._lock:
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            found = await probe(path)
            self._known[path] = (stamp, found)
            return found


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call for both figures
    except OSError as error:
        raise ConfigUnsupported(f"the emulator {path} cannot be used: {error.strerror}") from None
    return found.st_mtime_ns, found.st_ino


async def probe(path: str) -> QemuCapabilities:
    """Ask one binary."""
    kvm = usable_kvm(path)
    command = [path, "-S", "-no-user-config", "-nodefaults", "-display", "none"]
    command += ["-machine", f"none,accel={'kvm:tcg' if kvm else 'tcg'}", "-qmp", "stdio"]
    answers = _answers(path, await _run(path, command))
    return _read(path, answers)


def usable_kvm(path: str) -> bool:
    """Whether the host lets us use KVM, for guests of its own architecture."""
    arch = os.path.basename(path).removeprefix("qemu-system-")  # noqa: PTH119 - a name, no file
    own = platform.machine()
    native = arch == own or (own == "x86_64" and arch in ("i386", "kvm"))
    return native and os.access(KVM_DEVICE, os.R_OK | os.W_OK)


async def _run(path: str, command: list[str]) -> bytes:
    try:
        with trio.fail_after(DEADLINE):
            process = await trio.lowlevel.open_process(
                command, stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            output, errors = await _converse(process)
    except trio.TooSlowError:
        raise InternalError(f"{path} did not say what it can do within {DEADLINE:g} s") from None
    except OSError as error:
        raise ConfigUnsupported(f"the emulator {path} cannot be run: {error.strerror}") from None
    if process.returncode:
        cause = errors.decode(errors="replace").strip()
        raise ConfigUnsupported(f"the emulator {path} cannot be used: {cause}")
    return output


async def _converse(process: trio.Process) -> tuple[bytes, bytes]:
    """Standard output and error. `quit` waits for the last answer, or it would cut it off."""
    output, errors = bytearray(), bytearray()
    answered = trio.Event()
    async with _ended(process), trio.open_nursery() as nursery:
        nursery.start_soon(_collect, process.stdout, output, answered)
        nursery.start_soon(_collect, process.stderr, errors, trio.Event())
        if process.stdin is not None:
            await _ask(process.stdin, answered)
        await process.wait()
    return bytes(output), bytes(errors)


async def _ask(stdin: trio.abc.SendStream, answered: trio.Event) -> None:
    questions = [{"execute": name, "id": name} for name in _QUESTIONS]
    lines = [json.dumps(question) for question in (*questions, _DEVICES)]
    # One that has ended by itself says why with its exit status and its last words.
    with suppress(trio.BrokenResourceError):
        await stdin.send_all("\n".join(lines).encode())
        await answered.wait()
        await stdin.send_all(json.dumps({"execute": "quit"}).encode())


async def _collect(
    stream: trio.abc.ReceiveStream | None, into: bytearray, answered: trio.Event
) -> None:
    """All that comes; the last answer, or the end, is told."""
    if stream is not None:
        async for chunk in stream:
            into += chunk
            if into.endswith(b"\n") and _LAST_ANSWER in into:
                answered.set()
    answered.set()


@asynccontextmanager
async def _ended(process: trio.Process) -> AsyncIterator[None]:
    """Nothing remains of it, also when nobody wants its answers any more."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            with trio.move_on_after(_KILL_GRACE, shield=True):
                await process.wait()


def _answers(path: str, output: bytes) -> dict[str, Any]:
    try:
        messages = [json.loads(line) for line in output.splitlines() if line.strip()]
    except ValueError:
        raise ConfigUnsupported(f"{path} does not answer as QEMU does") from None
    answers = {message.get("id"): message.get("return") for message in messages if "id" in message}
    missing = [name for name in (*_QUESTIONS, "devices") if answers.get(name) is None]
    if missing:
        raise ConfigUnsupported(f"{path} does not answer {missing[0]}")
    return answers


def _read(path: str, answers: dict[str, Any]) -> QemuCapabilities:
    version: Json = answers["query-version"]["qemu"]
    models = answers["query-cpu-definitions"]
    return QemuCapabilities(
        path=path,
        version=(version["major"], version["minor"], version["micro"]),
        package=answers["query-version"].get("package", ""),
        arch={"i386": "i686"}.get(answers["query-target"]["arch"], answers["query-target"]["arch"]),
        machines=tuple(_machine(machine) for machine in answers["query-machines"]),
        cpu_models=tuple(sorted(model["name"] for model in models)),
        unavailable_features={
            model["name"]: tuple(model["unavailable-features"])
            for model in models
            if model.get("unavailable-features")
        },
        devices=frozenset(kind["name"] for kind in answers["devices"]),
        kvm=bool(answers["query-kvm"].get("enabled")),
    )


def _machine(machine: Json) -> Machine:
    cpu = str(machine.get("default-cpu-type", ""))
    return Machine(
        name=machine["name"],
        alias=machine.get("alias"),
        max_cpus=machine.get("cpu-max", 1),
        # The type's name ends with the architecture and the word cpu.
        default_cpu="-".join(cpu.split("-")[:-2]),
        deprecated=bool(machine.get("deprecated")),
    )
