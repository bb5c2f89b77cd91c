"""The files in deploy/, checked against the schemas and programs that read them. Starts no services."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES_VERSIONS = ("1.29", "1.31", "1.33")

# systemd's own scale: 0 is locked up, 10 is wide open.
EXPOSURE_MAX = 1.5

# https://keda.sh/docs/latest/scalers/redis-streams/ and .../concepts/scaling-deployments/
AUTHENTICATION = {
    "type": "object",
    "required": ["secretTargetRef"],
    "additionalProperties": False,
    "properties": {
        "secretTargetRef": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["parameter", "name", "key"],
                "additionalProperties": False,
                "properties": {
                    "parameter": {"enum": ["username", "password", "sentinelPassword"]},
                    "name": {"type": "string"},
                    "key": {"type": "string"},
                },
            },
        }
    },
}
SCALED_OBJECT = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "additionalProperties": False,
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"enum": ["Deployment", "StatefulSet"]},
                "name": {"type": "string"},
                "envSourceContainerName": {"type": "string"},
            },
        },
        "minReplicaCount": {"type": "integer", "minimum": 0},
        "maxReplicaCount": {"type": "integer", "minimum": 1},
        "pollingInterval": {"type": "integer", "minimum": 1},
        "cooldownPeriod": {"type": "integer", "minimum": 0},
        "triggers": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["type", "metadata"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "redis-streams"},
                    "metadata": {
                        "type": "object",
                        "required": ["address", "stream", "consumerGroup", "lagCount"],
                        "additionalProperties": False,
                        # The scaler takes every value as text.
                        "properties": {
                            "address": {"type": "string", "pattern": r"^[a-z0-9.-]+:[0-9]+$"},
                            "databaseIndex": {"type": "string", "pattern": "^[0-9]+$"},
                            "stream": {"type": "string"},
                            "consumerGroup": {"type": "string"},
                            "lagCount": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                            "activationLagCount": {"type": "string", "pattern": "^[0-9]+$"},
                            "enableTLS": {"enum": ["true", "false"]},
                        },
                    },
                    "authenticationRef": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {"name": {"type": "string"}},
                    },
                },
            },
        },
    },
}
KEDA = {"TriggerAuthentication": AUTHENTICATION, "ScaledObject": SCALED_OBJECT}

failures = []
passed = 0


def check(name, condition, detail=""):
    global passed
    if condition:
        passed += 1
    else:
        failures.append(name)
        print(f"FAILED: {name}: {detail}")


def skip(what, why):
    print(f"SKIPPED: {what}: {why}")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def compose():
    """`docker compose config` needs only the client."""
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]) and run(*program, "version")[0] == 0:
            break
    else:
        return skip("compose files", "neither `docker compose` nor `docker-compose` is here")
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "deploy"
        shutil.copytree(DEPLOY, tree)
        shutil.copy(tree / "compose/env.example", tree / "compose/.env")
        for name, services in (("compose.yaml", 2), ("compose.sentinel.yaml", 7)):
            code, out, err = run(*program, "-f", name, "config", cwd=tree / "compose")
            check(f"{name} is valid", code == 0, err)
            if code != 0:
                continue
            found = yaml.safe_load(out)["services"]
            # Older versions of Compose also list services with profiles.
            plain = [service for service, settings in found.items() if not settings.get("profiles")]
            check(f"{name}: services", len(plain) == services, list(found))
            for service, settings in found.items():
                for volume in settings.get("volumes", []):
                    source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
                    if source.startswith("/"):
                        there = pathlib.Path(source).is_file()
                        check(f"{name}: {service} mounts a file that is there", there, source)
            environment = found["engine"]["environment"]
            check(f"{name}: stable name", "REDIS_QUEUE__CONSUMER_NAME" in environment, environment)
        os.remove(tree / "compose/.env")
        code, _, err = run(*program, "-f", "compose.yaml", "config", cwd=tree / "compose")
        check("compose.yaml insists on passwords", code != 0 and "env.example" in err, err)
    return None


def kubernetes():
    folder = DEPLOY / "kubernetes"
    resources = documents(folder / "kustomization.yaml")[0]["resources"]
    manifests = [document for name in resources for document in documents(folder / name)]
    known = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "framepress.yaml"}
    stands_in = {"shards.yaml": "scaledobject.yaml"}
    for name, other in stands_in.items():
        what = [[(it["kind"], it["metadata"]["name"]) for it in documents(folder / file)] for file in (name, other)]
        check(f"{name} stands in for {other}", set(what[0]) <= set(what[1]), what)
    known -= set(stands_in)
    check("every manifest is in kustomization.yaml", known == set(resources), known ^ set(resources))
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        schema = KEDA.get(manifest["kind"])
        if schema is not None:
            check(f"{name}: version", manifest["apiVersion"] == "keda.sh/v1alpha1")
            errors = list(jsonschema.Draft202012Validator(schema).iter_errors(manifest["spec"]))
            check(f"{name} fits its schema", not errors, errors)
            continue
        for version in KUBERNETES_VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
                check(f"{name} fits the schema of {version}", True)
            except kubernetes_validate.ValidationError as error:
                check(f"{name} fits the schema of {version}", False, error)

    def only(kind, name="framepress"):
        found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
        check(f"one {kind}/{name}", len(found) == 1, len(found))
        return found[0]

    engine = only("StatefulSet")
    pod = engine["spec"]["template"]["spec"]
    container = pod["containers"][0]
    labels = engine["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = only(kind)["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        check(f"{kind} selects the engine", selector.items() <= labels.items(), selector)
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")}
    check("probes", probes == {"liveness": "/livez", "readiness": "/readyz"}, probes)
    environment = {entry["name"]: entry["valueFrom"] for entry in container["env"]}
    name = environment["REDIS_QUEUE__CONSUMER_NAME"]["fieldRef"]["fieldPath"]
    check("the consumer is named after the pod", name == "metadata.name", name)
    secret = only("Secret")["stringData"]
    wanted = [entry["secretKeyRef"] for entry in environment.values() if "secretKeyRef" in entry]
    wanted += only("TriggerAuthentication", "framepress-scaler")["spec"]["secretTargetRef"]
    for entry in wanted:
        check(f"the Secret has {entry['key']}", entry["key"] in secret, list(secret))
    scaled = only("ScaledObject")["spec"]
    target = scaled["scaleTargetRef"]
    check("KEDA scales the engine", (target["kind"], target["name"]) == ("StatefulSet", "framepress"))
    trigger = scaled["triggers"][0]["metadata"]
    defaults = (trigger["stream"], trigger["consumerGroup"])
    check("KEDA looks at our stream", defaults == ("camera_frames", "stream_processor"), defaults)
    drain = documents(folder / "framepress.yaml")[0]["engine"]["drain_timeout_ms"]
    grace = pod["terminationGracePeriodSeconds"]
    check("there is time to drain", 1000 * grace > drain, (grace, drain))

    # Kustomize cannot read files outside its folder.
    same = (folder / "redis.conf").read_text() == (DEPLOY / "redis/redis.conf").read_text()
    check("redis.conf is that of deploy/redis", same)
    users = (DEPLOY / "redis/users.acl").read_text()
    check("users.acl is that of deploy/redis", secret["users.acl"].strip() == users.strip())

    if shutil.which("kubectl") is None:
        return skip("kustomize", "kubectl is not here")
    code, out, err = run("kubectl", "kustomize", str(folder))
    check("kustomize builds", code == 0, err)
    if code == 0:
        built = [document["kind"] for document in yaml.safe_load_all(out)]
        check("kustomize makes the ConfigMaps", built.count("ConfigMap") == 2, built)
    return None


def systemd():
    if shutil.which("systemd-analyze") is None:
        return skip("the units", "systemd-analyze is not here")
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        # A template is checked as one of its instances.
        unit(path.read_text(), path.name.replace("@.", "@kafka-to-redis."))
    return None


def unit(text, name):
    program = pathlib.Path(os.environ["FRAMEPRESS_BIN"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_text(text.replace("/usr/bin/framepress", str(program)))
        code, _, err = run("systemd-analyze", "verify", "--man=no", str(path))
        ours = [line for line in err.splitlines() if "framepress" in line]
        check(f"{name} is valid", not ours and (code == 0 or not err), err)
        code, out, err = run(
            "systemd-analyze", "security", "--offline=true", "--no-pager", str(path)
        )
        found = re.search(r"exposure level.*?: ([0-9.]+)", out)
        if found is None:
            return skip(f"the exposure of {name}", f"this systemd-analyze does not tell: {err.strip()}")
        check(f"{name} is locked up", float(found[1]) <= EXPOSURE_MAX, found[0])
        print(f"{name}: exposure {found[1]} of 10")
    return None


def dockerfile():
    """Checked as text, as there is no container engine to build it."""
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.M)
    check("built on Debian, an image with ffmpeg, one with nothing", stages == ["rust:1-bookworm", "debian:bookworm-slim", "scratch"], stages)
    check("not root", len(re.findall(r"^USER 10001:10001$", text, re.M)) == 2)
    fetched = re.findall(r"curl|wget|git clone|ADD http", text)
    check("nothing is downloaded but packages", not fetched, fetched)
    commands = [json.loads(found) for found in re.findall(r"^HEALTHCHECK.* CMD (\[.*\])$", text, re.M)]
    check("health checks need no shell", commands == 2 * [["/usr/bin/framepress", "health"]], commands)
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"$', manifest, re.M)[1]
    for name in ("compose/compose.yaml", "compose/compose.sentinel.yaml", "Dockerfile"):
        text = (DEPLOY / name).read_text()
        check(f"{name} names this version", f"framepress:{version}" in text, version)
    tag = documents(DEPLOY / "kubernetes/kustomization.yaml")[0]["images"][0]["newTag"]
    check("kustomization.yaml names this version", tag == version, tag)


def build_context():
    """The files that .dockerignore admits must form a whole workspace: a missing member breaks the build."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    with tempfile.TemporaryDirectory() as folder:
        for name in kept:
            source, target = ROOT / name, pathlib.Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        code, _, err = run("cargo", "metadata", "--format-version", "1", "--no-deps", "--offline", cwd=folder)
        check("cargo takes what the image is built from", code == 0, err.strip()[-400:])
        text = (DEPLOY / "Dockerfile").read_text()
        for script in re.findall(r"sh (\S+\.sh)", text):
            check(f"{script} is there", pathlib.Path(folder, script).exists())


def main():
    if "FRAMEPRESS_BIN" not in os.environ:
        sys.exit("FRAMEPRESS_BIN names the program under test; `make python-test` sets it")
    compose()
    kubernetes()
    systemd()
    dockerfile()
    build_context()
    print(f"deploy: {passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
