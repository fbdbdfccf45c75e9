"""Words that make a reader stumble, with what to write instead; `make check` runs this over code, help and documents.

A word stands here when it was used for code where the field has a term of its own, or in a sense that only this project
knew. A line that needs one of them all the same ends in `prose: WORD`, in a comment.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WORDS = {
    "told": "reported, logged, passed",
    "said": "request, given, stated",
    "asked": "requested, queried",
    "asker": "caller",
    "desk": "command line, registry client",
    "nobody": "no client, no caller, none",
    "somebody": "another process, a user",
    "heard": "received, reported",
    "mend": "fix",
    "mended": "fixed",
    "mends": "fixes",
    "so many": "at least N, at most N, many",
    "so much": "at least, at most",
    "dear": "expensive",
    "dearest": "most expensive",
    "crowd": "overload, many clients",
    "shall": "must, will",
    "take leave": "report that the node is leaving",
    "takes leave": "reports that the node is leaving",
    "in vain": "without success",
    "doings": "activity",
    "upkeep": "background loop",
    "ledger": "token store",
    "in good order": "cleanly",
    "who asks": "the caller",
    "who waits": "a waiting caller",
    "who wants": "a caller that wants",
    "who answers": "the server",
    "who comes": "a new client",
    "one who": "a client that",
}
_PATTERN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b", re.IGNORECASE)
_PLACES = ("registry_core/", "agent/", "duxnet/", "docs/", "systemd/", "README", "CONTRIBUTING", "config.example")
_ENDINGS = (".py", ".md", ".toml", ".html", ".service", ".conf")


def findings(path: Path) -> list[str]:
    """One line for each word found: where it is, and what to write instead."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for match in _PATTERN.finditer(line.replace("_", " ")):
            word = match[1].lower()
            if not line.rstrip().endswith(f"prose: {word}"):
                found.append(f"{path}:{number}: '{word}': write {WORDS[word]}")
    return found


def main() -> int:
    """The exit code: 1 when a word was found."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [Path(name) for name in names if name.startswith(_PLACES) and name.endswith(_ENDINGS)]
    found = [line for path in paths if path.exists() for line in findings(path)]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
