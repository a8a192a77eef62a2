"""The guest's processor as QEMU's `-cpu` and `-smp` take it."""

from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import on_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtbackupd.drivers.definitions.machine import CpuDefinition
    from virtbackupd.drivers.qemu.arguments import Arguments
    from virtbackupd.drivers.qemu.build import Build

_POLICIES: Final = {
    "force": "on",
    "require": "on",
    "optional": "on",
    "disable": "off",
    "forbid": "off",
}
_FEATURES: Final = {
    "cmp_legacy": "cmp-legacy",
    "cmt": "",
    "ds_cpl": "ds-cpl",
    "fxsr_opt": "fxsr-opt",
    "kvm_hint_dedicated": "kvm-hint-dedicated",
    "lahf_lm": "lahf-lm",
    "nodeid_msr": "nodeid-msr",
    "pclmuldq": "pclmulqdq",
    "perfctr_core": "perfctr-core",
    "perfctr_nb": "perfctr-nb",
    "tsc_adjust": "tsc-adjust",
    "mbm_total": "",
    "mbm_local": "",
}
"""libvirt's names of features where QEMU has another, or none."""
_SWITCHES: Final = {"pmu": "pmu", "pvspinlock": "kvm-pv-unhalt"}
_HYPERV: Final = ("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset",
                  "frequencies", "reenlightenment", "tlbflush", "ipi", "evmcs")  # fmt: skip
_TIMERS: Final = {"kvmclock": "kvmclock", "hypervclock": "hv-time"}


def add_cpu(arguments: "Arguments", build: "Build") -> None:
    """`-cpu` and `-smp`."""
    model, migratable = _model(build)
    settings = [*migratable, *_features(build.machine.cpu), *_enlightenments(build)]
    arguments.add("-cpu", ",".join([model, *settings]))
    arguments.add("-smp", _smp(build))


def _model(build: "Build") -> tuple[str, list[str]]:
    cpu = build.machine.cpu
    mode = "custom" if cpu is None else cpu.mode
    match mode:
        case "host-passthrough":
            return _host(build, cpu)
        case "host-model":
            return ("host", []) if build.accelerated else ("max", [])
        case "maximum":
            return "max", []
    model = None if cpu is None else cpu.model
    return _named(build, model or build.capabilities.default_cpu), []


def _host(build: "Build", cpu: "CpuDefinition | None") -> tuple[str, list[str]]:
    if not build.accelerated:
        raise ConfigUnsupported(
            f"domain {build.definition.name}: the CPU mode 'host-passthrough' needs"
            " <domain type='kvm'>; use 'maximum' for an emulated processor"
        )
    migratable = None if cpu is None else on_off(cpu.migratable)
    return "host", [] if migratable is None else [f"migratable={migratable}"]


def _named(build: "Build", model: str) -> str:
    if model not in build.capabilities.cpu_models:
        raise ConfigUnsupported(f"{build.capabilities.path} has no CPU model {model!r}")
    return model


def _features(cpu: "CpuDefinition | None") -> "Iterator[str]":
    for feature in () if cpu is None else cpu.features:
        name = _FEATURES.get(feature.name, feature.name)
        if (
            feature.policy not in _POLICIES
            or not name.replace("-", "").replace(".", "").replace("_", "").isalnum()
        ):
            raise ConfigUnsupported(
                f"CPU feature {feature.name!r} with the policy {feature.policy!r} is not supported"
            )
        yield f"{name}={_POLICIES[feature.policy]}"


def _enlightenments(build: "Build") -> "Iterator[str]":
    """What a guest is told of the hypervisor below it."""
    machine = build.machine
    for timer in machine.clock.timers:
        if timer.name in _TIMERS and timer.present is not None:
            yield f"{_TIMERS[timer.name]}={on_off(timer.present)}"
    for name, setting in _SWITCHES.items():
        if name in machine.features:
            yield f"{setting}={machine.features[name]}"
    if machine.hidden:
        yield "kvm=off"
    for name in _HYPERV:
        if machine.hyperv.get(name) == "on":
            yield _hyperv(name, machine.hyperv_retries)
    if any(panic.model == "hyperv" for panic in build.hardware.panics):
        yield "hv-crash"


def _hyperv(name: str, retries: int | None) -> str:
    if name == "spinlocks":
        return f"hv-spinlocks=0x{retries or 0x1FFF:x}"
    return f"hv-{name}=on"


def _smp(build: "Build") -> str:
    definition = build.definition
    topology = None if build.machine.cpu is None else build.machine.cpu.topology
    most = definition.max_vcpus
    text = str(definition.vcpus)
    if most != definition.vcpus:
        text += f",maxcpus={most}"
    limit = build.capabilities.machine(definition.machine or "").max_cpus
    if most > limit:
        raise ConfigUnsupported(
            f"domain {definition.name} has {most} virtual CPUs, its machine takes {limit}"
        )
    if topology is None:
        return f"{text},sockets={most},cores=1,threads=1"
    if topology.sockets * topology.dies * topology.cores * topology.threads != most:
        raise ConfigUnsupported(
            f"the CPU topology of domain {definition.name} does not make {most} virtual CPUs"
        )
    return (
        f"{text},sockets={topology.sockets},dies={topology.dies},cores={topology.cores}"
        f",threads={topology.threads}"
    )
