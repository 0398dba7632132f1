#!/usr/bin/env python3
"""Compares what the sources of each Swift target import with what Package.swift declares, in both directions.

SwiftPM's own check (--explicit-target-dependency-import-check) accepts a module that a declared dependency depends on,
and does not look for dependencies without a use.

Use: swift package dump-package | Tests/Imports/check.py ROOT
"""
import json
import pathlib
import re
import sys

# What the toolchain brings.
TOOLCHAIN = {"Dispatch", "Foundation", "Glibc", "Swift", "Synchronization", "Testing"}

IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+"
    r"(?:(?:actor|class|enum|func|let|protocol|struct|typealias|var)\s+)?(\w+)"
)


def imports(files):
    """Each imported module with the place of its first import."""
    found = {}
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := IMPORT.match(line):
                found.setdefault(match[1], f"{path}:{number}")
    return found


def declared(target):
    """Names of the target's dependencies. A product of another package has the name of its module here."""
    return {(entry.get("byName") or entry.get("product") or entry["target"])[0] for entry in target["dependencies"]}


def faults(package, root):
    # A test may need a program to have been built without importing it.
    programs = {target["name"] for target in package["targets"] if target["type"] == "executable"}
    for target in package["targets"]:
        name = target["name"]
        place = "Tests" if target["type"] == "test" else "Sources"
        folder = root / (target.get("path") or f"{place}/{name}")
        if not folder.is_dir():
            yield f"{folder}: no such folder; the sources of {name} are expected there"
        files = sorted(folder.rglob("*.swift"))
        # C has no modules: the linker finds what is missing.
        if not files:
            continue
        found, wanted = imports(files), declared(target)
        for module in sorted(found.keys() - wanted - TOOLCHAIN - {name}):
            yield f"{found[module]}: {name} imports {module}, which Package.swift does not declare for it"
        for module in sorted(wanted - found.keys() - programs):
            yield f"Package.swift: {name} declares {module}, which none of its sources imports"


found = list(faults(json.load(sys.stdin), pathlib.Path(sys.argv[1])))
for fault in found:
    print(fault, file=sys.stderr)
sys.exit(1 if found else 0)
