"""Checks licences and duplicate versions of the dependency tree against deny.toml.

Reads `cargo metadata`, so it needs no tool that takes minutes to build; `cargo deny check` gives
the same answers where it is installed.
"""
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict

PLATFORM = "x86_64-unknown-linux-gnu"


def allowed(expression: str, licences: set[str]) -> bool:
    """Evaluates an SPDX expression: OR needs one side, AND both."""
    expression = expression.replace("/", " OR ")
    expression = re.sub(r"([A-Za-z0-9.\-]+) WITH ([A-Za-z0-9.\-]+)", r"\1_WITH_\2", expression)
    words = {licence.replace(" WITH ", "_WITH_") for licence in licences}
    python = " ".join(
        token.lower() if token in ("AND", "OR") else token if token in "()" else str(token in words)
        for token in re.findall(r"\(|\)|[^\s()]+", expression)
    )
    return bool(eval(python, {"__builtins__": {}}, {}))  # only True, False, and, or, ( and )


def main() -> int:
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--filter-platform", PLATFORM]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

    # Duplicates count where users' builds pay for them: normal and build dependencies.
    reached, todo = set(), list(metadata["workspace_members"])
    while todo:
        package = todo.pop()
        if package in reached:
            continue
        reached.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])

    problems = []
    licences = set(rules["licenses"]["allow"])
    for package in packages.values():
        licence = package["license"] or "none stated"
        if not allowed(licence, licences):
            problems.append(f"{package['name']} {package['version']}: licence {licence} is not in deny.toml")
    versions = defaultdict(set)
    for package in reached:
        versions[packages[package]["name"]].add(packages[package]["version"])
    skipped = {entry["crate"].split("@")[0] for entry in rules["bans"]["skip"]}
    for name, found in sorted(versions.items()):
        if len(found) > 1 and name not in skipped:
            problems.append(f"{name} stands in the tree as {', '.join(sorted(found))}: unify, or give a reason in deny.toml")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"dependencies: {len(packages)} packages, {len(reached)} in users' builds, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
