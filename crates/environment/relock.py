"""Make `worker/requirements.lock` and `crates/environment/downloads.tsv` anew.

Run it from anywhere as `python3 crates/environment/relock.py`, with Python 3.11 or later, `uv` on
PATH and the package `packaging` importable. Versions already in the lock are kept unless
`requirements.in` forbids them; `--upgrade` takes the newest that it allows.

The table says, for each supported Python and machine, which wheels an installer will fetch and how
large they are, so that the program can tell before it asks the network anything.
"""

import pathlib
import subprocess
import sys
import tempfile
import tomllib

from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

HERE = pathlib.Path(__file__).resolve().parent
WORKER = HERE.parent.parent / "worker"
LOCK = WORKER / "requirements.lock"
TABLE = HERE / "downloads.tsv"

PYTHONS = [(3, minor) for minor in range(10, 15)]
MACHINES = ["x86_64", "aarch64"]
# The oldest C library that wheels of torch run on is 2.28; 2.39 is the newest tag seen on a wheel.
GLIBC_MINORS = range(39, 4, -1)


def compile_lock(*arguments: str) -> None:
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-annotate", *arguments]
    subprocess.run(command, cwd=WORKER, check=True)


def locked_packages() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        detailed = pathlib.Path(folder) / "pylock.toml"
        compile_lock("--no-deps", "--format", "pylock.toml", "-o", str(detailed), LOCK.name)
        return tomllib.loads(detailed.read_text())["packages"]


def wheel_ranks(python: tuple[int, int], machine: str) -> dict:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    platforms += [f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    tags = list(cpython_tags(python, platforms=platforms))
    tags += compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def marker_values(python: tuple[int, int], machine: str) -> dict[str, str]:
    version = f"{python[0]}.{python[1]}"
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }


def chosen_wheel_bytes(package: dict, ranks: dict) -> int:
    candidates = []
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
        known = [ranks[tag] for tag in parse_wheel_filename(name)[3] if tag in ranks]
        if known:
            candidates.append((min(known), wheel["size"]))
    if not candidates:
        raise SystemExit(f"no wheel of {package['name']} {package['version']} fits")
    return min(candidates)[1]


def main() -> None:
    compile_lock(
        "--custom-compile-command",
        "python3 crates/environment/relock.py",
        *sys.argv[1:],
        "-o",
        LOCK.name,
        "requirements.in",
    )
    packages = locked_packages()
    targets: dict[tuple[str, str, int], list[str]] = {}
    for python in PYTHONS:
        for machine in MACHINES:
            ranks = wheel_ranks(python, machine)
            values = marker_values(python, machine)
            for package in packages:
                marker = package.get("marker")
                if marker and not Marker(marker).evaluate(values):
                    continue
                size = chosen_wheel_bytes(package, ranks)
                line = (package["name"], package["version"], size)
                targets.setdefault(line, []).append(f"{python[0]}.{python[1]}/{machine}")
    with TABLE.open("w") as table:
        print("# Generated with worker/requirements.lock by relock.py; not for editing.", file=table)
        print("# package, version, bytes of its wheel, targets that fetch this wheel", file=table)
        for (name, version, size), where in sorted(targets.items()):
            print(name, version, size, ",".join(where), sep="\t", file=table)


main()
