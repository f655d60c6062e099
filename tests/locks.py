"""The lock files and pyproject.toml say the same: `python -m tests.locks [--write]`.

A lock is fresh when resolving again, with the lock as the preference, changes nothing. That needs the package index,
so the quick check compares a digest of the requirements that the lock was resolved from.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = {
    "development": ("studio", "spark", "kafka", "development"),
    "core": ("studio",),
    "serving": (),
    "prefect": ("prefect",),
}
"""Extras of the project; or a group, which is an environment of its own without the project."""


def requirements(extras: tuple[str, ...]) -> list[str]:
    """What pyproject.toml asks for, with these extras, or for a group alone."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = document["project"], document["dependency-groups"]
    if set(extras) & set(groups):
        return sorted(line for group in extras for line in groups[group])
    return sorted(
        [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    )


def digest(extras: tuple[str, ...]) -> str:
    """16 hexadecimal digits over the requirements."""
    return hashlib.sha256(json.dumps(requirements(extras)).encode()).hexdigest()[:16]


def header(extras: tuple[str, ...]) -> str:
    """The first line of a lock file."""
    return f"# resolved by `make lock` from pyproject.toml; requirements {digest(extras)}"


def write(name: str, extras: tuple[str, ...]) -> None:
    """Resolve one lock for every platform and supported Python, without addresses."""
    path = ROOT / "requirements" / f"{name}.lock"
    command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--universal", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet", "-"]
    if path.exists():
        command += ["--output-file", str(path)]
    if name in ("core", "serving"):  # one version of a package everywhere
        command += ["--constraint", "requirements/development.lock"]
    answer = subprocess.run(
        command, input="\n".join(requirements(extras)), capture_output=True, text=True, check=True, cwd=ROOT
    )
    body = answer.stdout if answer.stdout.strip() else path.read_text(encoding="utf-8")
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("#")]
    path.write_text("\n".join([header(extras), *lines]) + "\n", encoding="utf-8")


def faults() -> list[str]:
    """What is wrong with the locks, one sentence each."""
    found = []
    for name, extras in LOCKS.items():
        path = ROOT / "requirements" / f"{name}.lock"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.partition("\n")[0] != header(extras):
            found.append(f"requirements/{name}.lock is stale. Hint: run `make lock`.")
        if "://" in text:
            found.append(f"requirements/{name}.lock carries an address.")
    return found


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        for lock, wanted in LOCKS.items():
            write(lock, wanted)
    problems = faults()
    sys.stderr.write("".join(problem + "\n" for problem in problems))
    raise SystemExit(1 if problems else 0)
