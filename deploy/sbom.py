"""Prints the bill of materials of the program, as CycloneDX 1.5, to standard output.

Usage: sbom.py CARGO [TARGET]

Lists the crates linked into the program for the target, and those that build it, from `cargo metadata`. C
libraries that crates bundle belong to these crates. Needs nothing but Python.
"""

import hashlib
import json
import re
import subprocess
import sys
import uuid
from collections import deque

ROOT = "framepress"


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def licences(package):
    expression = (package.get("license") or "").replace("/", " OR ")
    return [{"expression": expression}] if expression else []


def checksums():
    """SHA-256 of each package as published in the registry, from Cargo.lock."""
    with open("Cargo.lock", encoding="utf-8") as lock:
        blocks = lock.read().split("[[package]]")
    found = {}
    for block in blocks:
        field = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.MULTILINE))
        if "checksum" in field:
            found[field["name"], field["version"]] = field["checksum"]
    return found


def main():
    cargo = sys.argv[1]
    target = sys.argv[2] if len(sys.argv) > 2 else None
    if target is None:
        about = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True)
        target = re.search(r"^host: (.*)$", about.stdout, re.MULTILINE).group(1)
    command = [cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(it for it in packages if packages[it]["name"] == ROOT)

    # Linked in: normal dependencies of normal ones. All other reached packages only take part in the build.
    scope, waiting = {}, deque([(root, "required")])
    while waiting:
        package, reach = waiting.popleft()
        if scope.get(package) in ("required", reach):
            continue
        scope[package] = reach
        for dependency in nodes[package]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if None in kinds:
                waiting.append((dependency["pkg"], reach))
            elif "build" in kinds:
                waiting.append((dependency["pkg"], "excluded"))

    known = checksums()
    components, dependencies = [], []
    for package_id in sorted(scope, key=lambda it: purl(packages[it])):
        package = packages[package_id]
        depends = sorted(
            purl(packages[dependency["pkg"]])
            for dependency in nodes[package_id]["deps"]
            if dependency["pkg"] in scope
        )
        dependencies.append({"ref": purl(package), "dependsOn": depends})
        if package_id == root:
            continue
        component = {
            "type": "library",
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "scope": scope[package_id],
            "purl": purl(package),
            "licenses": licences(package),
        }
        checksum = known.get((package["name"], package["version"]))
        if checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package.get("repository"):
            component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        components.append(component)

    program = packages[root]
    body = {"components": components, "dependencies": dependencies}
    # The same packages give the same serial number, so that a package can be rebuilt bit by bit.
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": purl(program),
                    "name": program["name"],
                    "version": program["version"],
                    "purl": purl(program),
                    "licenses": licences(program),
                },
                "properties": [{"name": "cargo:target", "value": target}],
            },
            **body,
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
