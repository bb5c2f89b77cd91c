#!/bin/sh
# Fetches the Apache Kafka that the test target `kafka` runs, and prints the folder of the jars. The
# versions are in pom.xml; the registry is the one Maven is configured for. Without Java 17, Maven
# or a registry, the script says what is skipped, and succeeds.
set -eu

cd "$(dirname "$0")/../.."
folder="${CARGO_TARGET_DIR:-target}/kafka"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
skipped() {
    echo "skipped: $*" >&2
    echo "skipped: no test runs against Kafka" >&2
    exit 0
}

command -v java >/dev/null || skipped "no java; on Debian: apt-get install default-jre-headless"
release="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)"
[ "${release:-0}" -ge 17 ] || skipped "Kafka needs Java 17; this is ${release:-unknown}"

# Fetch again if the list has changed. An interrupted run has left no copy of the list.
if ! cmp -s tests/kafka/pom.xml "$folder/complete"; then
    command -v mvn >/dev/null || skipped "no mvn; on Debian: apt-get install maven"
    rm -rf "$folder/complete" "$folder/libs"
    if ! mvn -q -B --strict-checksums -f tests/kafka/pom.xml dependency:copy-dependencies \
        -DoutputDirectory="$folder/libs" >"$folder/log" 2>&1; then
        head -n 2 "$folder/log" >&2
        skipped "Maven does not fetch Kafka; its output is in $folder/log"
    fi
    cp tests/kafka/pom.xml "$folder/complete"
fi
echo "$folder/libs"
