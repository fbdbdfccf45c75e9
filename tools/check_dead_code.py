"""Code of the product that nothing uses; `make check` runs this.

vulture finds names that are defined and never used. It counts a name in `__all__` as used, so that a constant which was
declared and never read went unnoticed: here `__all__` is left out. Tests do not count: what only they call is dead.
What is used in a way that vulture cannot see stands below, with the reason. An exception that is no longer needed is
an error too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from vulture import Vulture

PRODUCT = ("registry_core", "agent", "duxnet")
USERS = ("benchmarks", "evaluation")

DECORATORS = ["@*.command*", "@field_validator*", "@model_validator*"]
"""What click and pydantic call by itself."""

EXCEPTIONS = {
    "registry_core/__init__.py": {
        "__getattr__": "Python calls it (PEP 562)",
        "__dir__": "Python calls it (PEP 562)",
    },
    "registry_core/contract.py": {
        "approve": "public: registry.admin",
        "put_on_probation": "public: registry.admin",
        "suspend": "public: registry.admin",
    },
    "registry_core/models/frozen.py": {"popitem": "a way to change a dict, refused"},
    "registry_core/models/node.py": {
        "physical_cores": "a field of a record, read by name",
        "os_version": "a field of a record, read by name",
        "agent_version": "a field of a record, read by name",
    },
    "registry_core/query/node_query.py": {"RANDOM": "a member of an enumeration, made from its text"},
    "registry_core/remote/certificates.py": {
        "minimum_version": "an attribute of ssl's",
        "verify_flags": "an attribute of ssl's",
    },
    "registry_core/remote/deadline.py": {"_pool": "an attribute of httpx's"},
    "registry_core/storage/sqlite/wal.py": {
        "whole_commits": "what the law test of the scan compares with what SQLite takes",
        "unfinished_frames": "as whole_commits",
    },
    "registry_core/testing.py": {
        "HandClock": "for tests",
        "SlowStore": "for tests",
        "set_wall": "for tests",
        "let_go": "for tests",
        "wait_for_commands": "for tests",
    },
    "registry_core/wire/shapes.py": {"retention_seconds": "a field of an answer, for clients"},
    "agent/probe/deadline.py": {"stuck": "tests look at it: nothing else shows that a thread is out"},
    "agent/probe/gpu/reasons.py": {"word_of": "for who branches on a reason; docs/probe.md lists the words"},
    "agent/schedule.py": {
        "wakeup": "APScheduler calls it",
        "_do_submit_job": "APScheduler calls it",
    },
    "agent/settings.py": {"override": "a field of the settings, read by name"},
    "duxnet/cli/group.py": {
        "command_class": "click reads it",
        "format_commands": "click calls it",
        "format_options": "click calls it",
    },
    "duxnet/coordinator/app.py": {"create_app": "public: docs/coordinator.md"},
    "duxnet/coordinator/commit_queue.py": {
        "__context__": "an attribute of exceptions",
        "__traceback__": "an attribute of exceptions",
    },
    "duxnet/coordinator/http/openapi.py": {"selected": "a field of an answer, for clients"},
    "duxnet/coordinator/server/connection.py": {
        "disconnected": "an attribute of uvicorn's",
        "on_url": "httptools calls it",
        "send_400_response": "uvicorn calls it",
    },
    "duxnet/coordinator/server/process.py": {
        "minimum_version": "an attribute of ssl's",
        "capture_signals": "uvicorn calls it",
    },
    "duxnet/process/logs.py": {"emit": "logging calls it"},
    "duxnet/process/settings.py": {
        "model_config": "pydantic reads it",
        "settings_customise_sources": "pydantic calls it",
    },
}
"""File → name → who uses it all the same."""

_EXPORTS = re.compile(r"^__all__ = (\[[^\]]*\]|list\(.*\))$", re.MULTILINE)


def unused() -> Iterator[tuple[str, str, str]]:
    """File, name and a line for people, of everything that nothing uses."""
    found = Vulture(ignore_decorators=DECORATORS)
    for root in (*PRODUCT, *USERS):
        for path in sorted(Path(root).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.scan(_EXPORTS.sub(lambda match: "\n" * match[0].count("\n"), text), filename=path)
    for item in found.get_unused_code():
        path = Path(item.filename)
        if path.parts[0] in PRODUCT:
            yield path.as_posix(), item.name, f"{path}:{item.first_lineno}: unused {item.typ} '{item.name}'"


def main() -> int:
    """The exit code: 1 when something is unused, or an exception is needed no more."""
    excused = {(path, name) for path, names in EXCEPTIONS.items() for name in names}
    needed, lines = set(), []
    for path, name, line in unused():
        if (path, name) in excused:
            needed.add((path, name))
        else:
            lines.append(line)
    lines += [f"{path}: '{name}' is used, or gone: remove its exception" for path, name in sorted(excused - needed)]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
