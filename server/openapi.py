"""The description of the control endpoint in OpenAPI 3.1, made from the commands themselves.

Builds a plain dictionary. Knows no socket.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from virtbackupd.drivers.interface import ControlDescription

Json = dict[str, Any]

_ABOUT: Final = (
    "Arranges what a test of backup software needs: contents of disks, faults, time, worlds. The"
    " same commands are reached through virDomainQemuMonitorCommand."
)
_ERROR: Final[Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "A word for programs."},
                "message": {"type": "string", "description": "For people."},
                "libvirt": {"type": "integer", "description": "The virErrorNumber, if any."},
            },
        }
    },
}
_DOMAIN: Final[Json] = {
    "name": "domain",
    "in": "path",
    "required": True,
    "description": "The name or the UUID of a domain.",
    "schema": {"type": "string"},
}
_AFTER: Final[Json] = {
    "name": "after",
    "in": "query",
    "description": "Only entries with a greater number.",
    "schema": {"type": "integer", "minimum": 0},
}


def describe(commands: Mapping[str, ControlDescription]) -> Json:
    """The whole document."""
    schemas, components = _schemas(commands)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "virtbackupd control endpoint",
            "version": version("virtbackupd"),
            "description": _ABOUT,
        },
        "paths": {**dict(_fixed_paths()), **dict(_command_paths(commands, schemas))},
        "components": {"schemas": {"Error": _ERROR, **components}},
    }


def _schemas(commands: Mapping[str, ControlDescription]) -> tuple[dict[str, Json], Json]:
    """The schema of each command's arguments, and what these refer to."""
    kinds = [command.arguments for command in commands.values()]
    found, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    return dict(zip(commands, found, strict=True)), components


def _fixed_paths() -> Iterator[tuple[str, Json]]:
    for path, name, about in (
        ("/domains", "domains", "List the domains with their states."),
        ("/healthz", "healthz", "Answer, while the daemon serves."),
        ("/openapi.json", "openapi", "This description."),
    ):
        yield path, {"get": _operation(name, about)}
    calls = _operation("transcript", "The last calls and events, if a transcript is kept.")
    yield "/transcript", {"get": {**calls, "parameters": [_AFTER]}}


def _command_paths(
    commands: Mapping[str, ControlDescription], schemas: Mapping[str, Json]
) -> Iterator[tuple[str, Json]]:
    for name, command in commands.items():
        operation = _operation(name, command.about)
        required = any(field.required for field in msgspec.structs.fields(command.arguments))
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schemas[name]}},
        }
        if command.needs_domain:
            operation["parameters"] = [_DOMAIN]
        prefix = "/domains/{domain}" if command.needs_domain else ""
        yield f"{prefix}/control/{name}", {"post": operation}


def _operation(name: str, about: str) -> Json:
    refusal = {"$ref": "#/components/schemas/Error"}
    return {
        "operationId": name,
        "summary": about,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {}}}},
            "default": {
                "description": "Refused.",
                "content": {"application/json": {"schema": refusal}},
            },
        },
    }
