"""Commands for a monitor or a guest agent as their callers write them: JSON, checked for its form.

Knows no command.
"""

import json
from typing import Any

from virtbackupd.drivers.errors import InternalError


def read_command(domain_name: str, text: str, kind: str) -> Any:  # noqa: ANN401 - JSON
    """Whatever stands there; InternalError when it is not JSON. `kind` is for that error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InternalError(
            f"the {kind} command for domain {domain_name} is not JSON: {error}"
        ) from None


def read_agent_command(domain_name: str, text: str) -> dict[str, Any]:
    """An object that names what to execute, or else InternalError."""
    request = read_command(domain_name, text, "agent")
    if not isinstance(request, dict) or not isinstance(request.get("execute"), str):
        raise InternalError('an agent command is an object like {"execute": "guest-ping"}')
    return request
