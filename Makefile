# The two commands that a newcomer needs are `make demo` and `make test`. Both need root, since the sandbox boots machines.
# `make` alone builds; `make help` lists the targets by the comments that begin with two signs.
# Build output lives outside the checkout, so that a fresh clone does not compile the AWS SDK again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/infra/target
BIN := $(CARGO_TARGET_DIR)/debug
MACHINE := $(shell uname -m)
ORDER ?= switch-only
# FENCE: nothing for the pause where the source allows it, else the platform.
FENCE ?=
SOURCE ?= default
# Milliseconds of a round trip between `infra` and everything that it talks to.
RTT ?= 0
# `move`, or `tweetmarker`, which begins with tables of PostgreSQL.
STORY ?= move

# Machines, bridges and mounts need root; whoever is not root is asked by sudo, and builds as himself all the same.
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo -E env "PATH=$$PATH")
CACHE := $(or $(INFRA_SANDBOX_CACHE),$(HOME)/.cache/infra-sandbox)

# The tests kill the program where they want to; no other build can be.
TEST_FEATURES := --features infra/fault-points
test test-aws test-copy test-cutover test-life soak test-effects test-refusals test-security: FEATURES := $(TEST_FEATURES)
RUNNER := $(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)')

ROUNDS ?= 3

# Where make runs two things at once, cargo would take make's few jobs for all that it may use.
CARGO := env -u MAKEFLAGS -u MFLAGS cargo

# The gate has Clippy compile our crates. Hosts get those of the compiler itself.
RELEASE := env -u RUSTC_WORKSPACE_WRAPPER $(CARGO)

# The target of `make` without one.
.DEFAULT_GOAL := build

.PHONY: help agent deny install bench demo demo-life test test-aws test-copy test-cutover test-life soak test-effects test-refusals test-security test-sources build check typos tools image image-alone clean-sandbox

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: tools agent ## build infra, the agent, the engine's module and the sandbox
	$(CARGO) build --workspace --bins --locked $(FEATURES)

# What goes to the hosts lies beside `infra`: the agent, linked statically, and the engine's module. Both are of this computer's architecture: for another, build them on a
# machine of that kind and name the agent by `infra up --agent FILE`, with the module in the same folder.
agent: ## build only what goes to the hosts: the agent and the engine's module
	$(RELEASE) rustc -p infra-agent --bin infra-agent --locked --profile agent -- -C target-feature=+crt-static
	$(RELEASE) rustc -p infra-module --lib --crate-type cdylib --locked --profile agent
	install -D -C -m 755 $(CARGO_TARGET_DIR)/agent/infra-agent $(BIN)/infra-agent-$(MACHINE)
	install -D -C -m 755 $(CARGO_TARGET_DIR)/agent/libinfra_module.so $(BIN)/infra-module-$(MACHINE).so

demo: image ## move a demo app on this computer; SOURCE=heroku|plain|… ORDER=switch-only|promote-first FENCE=pause|platform RTT=MS STORY=tweetmarker
	$(SUDO) $(BIN)/sandbox demo --story $(STORY) --source $(SOURCE) --order $(ORDER) $(if $(FENCE),--fence $(FENCE)) --rtt $(RTT)

# What a pair goes through after the move, under 2,000 writes a second; life-report.json has the figures of each step.
demo-life: image ## a pair lives on: failovers, larger instances, a lost master; writes life-report.json
	$(SUDO) $(BIN)/sandbox demo --story life --time-scale 0.1 --keys 20000

# The tests that boot machines raise one sandbox after the other, and mostly wait for their machines; those of `cloud` wait for AWS. So they are built first and run beside all
# the rest; what they print comes when they end.
WAITING_TESTS := cloud journey life recovery security machines
TEST_FILES := $(wildcard tests/*.rs tests/*/main.rs */tests/*.rs */tests/*/main.rs)
OTHER_TESTS := $(filter-out $(WAITING_TESTS),$(foreach file,$(TEST_FILES),$(notdir $(if $(filter %/main.rs,$(file)),$(patsubst %/,%,$(dir $(file))),$(basename $(file))))))
AWS_TESTS := cd sandbox/aws && $(CACHE)/venv/bin/python -m unittest -q
TEST := cargo test --workspace --locked --no-fail-fast

# The whole suite. The tests that mostly wait begin first. Any other cargo waits for the "Running" of theirs, since it would hold the lock of the build until it has built all
# the rest. Unit tests mostly wait for engines of their own, so that more of them run at once than there are processors.
test: image ## everything that is tested; boots machines, needs root
	$(CARGO) test --workspace --locked --no-run $(FEATURES) $(WAITING_TESTS:%=--test %)
	status=0; machines=$$(mktemp); \
	$(RUNNER) setsid $(TEST) $(FEATURES) $(WAITING_TESTS:%=--test %) >$$machines 2>&1 & running=$$!; \
	trap "kill -TERM -$$running; exit 130" HUP INT PIPE TERM; \
	while kill -0 $$running 2>/dev/null && ! grep -q Running $$machines; do sleep 1; done; \
	($(AWS_TESTS)) || status=$$?; \
	if $(CARGO) test --workspace --all-targets --locked --no-run $(FEATURES); then \
	$(RUNNER) RUST_TEST_THREADS=4 $(TEST) $(FEATURES) --lib || status=$$?; \
	$(RUNNER) $(TEST) $(FEATURES) --bins $(OTHER_TESTS:%=--test %) || status=$$?; \
	$(RUNNER) $(TEST) $(FEATURES) --doc || status=$$?; \
	else status=$$?; fi; \
	echo "waiting for the tests of $(WAITING_TESTS)"; \
	wait $$running || status=$$?; cat $$machines; rm -f $$machines; \
	exit $$status

# Kills every command before and after each of its effects, and does all that can go wrong to a cutover at each of its phases, under both fences. Takes hours.
# FOLLOW=copy does it to a source that lets nobody replicate.
test-cutover: FENCE = pause,platform
test-cutover: FOLLOW ?= replication
test-cutover: image ## kill every command at each of its effects, and every fault at each phase; takes hours; FOLLOW=replication|copy
	$(RUNNER) RECOVERY=all FENCE=$(FENCE) FOLLOW=$(FOLLOW) cargo test --workspace --locked $(FEATURES) --test recovery -- --nocapture

# Kills a failover before and after each of its effects, while the app writes. Takes about an hour.
test-life: image ## kill a failover at each of its effects; takes about an hour
	$(RUNNER) LIFE=all cargo test --workspace --locked $(FEATURES) --test life -- --nocapture

# The sample of test-life, in which both hosts stay at the memory limit of a t3.micro for ten minutes, with backups and rewrites going on.
soak: image ## ten minutes at the memory limit of the instances, backups going on
	$(RUNNER) LIFE_SOAK_MINUTES=10 cargo test --workspace --locked $(FEATURES) --test life -- --nocapture

# A hundred thousand random writes to each engine, with MONITOR on one side; a part of `make test` is a sample of it.
test-effects: ## random writes to each engine: whatever changes, MONITOR marks
	EFFECTS_COMMANDS=100000 cargo test --workspace --locked $(FEATURES) --test copy effects -- --nocapture

# Every change that a cutover asks the platform for, refused in every way; a part of `make test` is a sample of it. About twelve minutes.
test-refusals: build ## refuse every change that a cutover asks the platform for; about twelve minutes
	REFUSALS=all cargo test -p infra --locked $(FEATURES) --lib cutover::tests::refusals -- --nocapture

# Every fault of a source, a link, a copy and a master at each moment of a copy, and two hundred kills, on loopback.
test-copy: build ## make every fault of a copied source at each of its moments; about ten minutes
	COPY_FAULTS=all $(RUNNER) cargo test --workspace --locked $(FEATURES) --test copy faults -- --nocapture

# The move from each kind of hosted Redis by the built programs on machines; about a minute a kind.
SOURCES ?= heroku cloud thin no-replication public v1 plain query two-vars copied-var redis-6 redis-6.2 redis-8 valkey-8
test-sources: image ## move the demo app off each kind of hosted Redis; a quarter of an hour; SOURCES="heroku plain"
	set -e; for source in $(SOURCES); do \
	$(SUDO) $(BIN)/sandbox demo --source $$source --time-scale 0.1 --keys 5000 --writes 30000 --report $(CARGO_TARGET_DIR)/source-$$source.json; \
	done

# Only what tries to get through where nobody should; a part of `make test`.
test-security: image ## only what tries to get through where nobody should
	$(RUNNER) cargo test --workspace --locked --no-fail-fast $(FEATURES) --test security

# Medians with their spread on this computer, best with nothing else running: a table, and bench-report.json.
bench: image ## measure on this computer; writes bench-report.json; ROUNDS=N
	cargo bench --profile dev --locked --workspace --bench compare -- --report $(CARGO_TARGET_DIR)/bench-verify.json
	cargo bench --profile dev --locked --workspace --bench import -- --rounds $(ROUNDS) --report $(CARGO_TARGET_DIR)/bench-import.json
	cargo bench --profile dev --locked --workspace --bench copy -- --rounds $(ROUNDS) --report $(CARGO_TARGET_DIR)/bench-copy.json
	cargo bench --profile dev --locked --workspace --bench backups -- --rounds $(ROUNDS) --report $(CARGO_TARGET_DIR)/bench-backups.json
	$(SUDO) $(BIN)/sandbox bench --rounds $(ROUNDS) --verify $(CARGO_TARGET_DIR)/bench-verify.json --import $(CARGO_TARGET_DIR)/bench-import.json --copy $(CARGO_TARGET_DIR)/bench-copy.json --backups $(CARGO_TARGET_DIR)/bench-backups.json

test-aws: image ## only the sandbox's AWS
	$(AWS_TESTS)

check: tools ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --all-targets --locked $(TEST_FEATURES) -- -D warnings

# Licences, bans and sources of everything in Cargo.lock, by deny.toml; and known flaws, where a database of them is at hand (DENY_DB, a folder of `advisory-db-…`).
# Built once into the cache, at this version and from its own lock file.
DENY_VERSION := 0.20.2
TOOLS := $(HOME)/.cache/infra/tools
DENY := $(TOOLS)/bin/cargo-deny-$(DENY_VERSION)
DENY_DB ?= $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs

$(DENY):
	CARGO_TARGET_DIR=$(TOOLS)/build cargo install cargo-deny --version =$(DENY_VERSION) --locked --debug --root $(TOOLS)
	mv $(TOOLS)/bin/cargo-deny $@
	rm -rf $(TOOLS)/build

deny: $(DENY) ## licences, bans and sources of all dependencies
	cargo fetch --locked --quiet
	$(DENY) --offline --workspace check --hide-inclusion-graph licenses bans sources
	@if ls -d $(DENY_DB)/*/ >/dev/null 2>&1; then $(DENY) --offline --workspace check --disable-fetch advisories; \
	else echo "known flaws were not looked at: there is no database in $(DENY_DB)"; fi

# Spelling, by _typos.toml. Its program comes built from the registry of Python packages, at this version.
TYPOS_VERSION := 1.52.0
TYPOS := $(TOOLS)/typos-$(TYPOS_VERSION)

$(TYPOS)/bin/typos: | tools
	python3 -m venv $(TYPOS)
	$(TYPOS)/bin/pip install --quiet --disable-pip-version-check --no-deps typos==$(TYPOS_VERSION)

typos: $(TYPOS)/bin/typos ## spelling of documents and code
	$(TYPOS)/bin/typos

# `infra`, and beside it what goes to the hosts, where cargo puts programs.
install: agent ## put infra, and what goes to the hosts, into cargo's folder of programs
	cargo install --path . --locked
	install -m 755 $(BIN)/infra-agent-$(MACHINE) $(BIN)/infra-module-$(MACHINE).so $(or $(CARGO_INSTALL_ROOT),$(CARGO_HOME),$(HOME)/.cargo)/bin

# Debian packages that the sandbox and the tests use; says what it installs, and does nothing when all are there.
tools: ## install the Debian packages that sandbox and tests use
	@sh .ci/tools

# The machines' image and the Python environment, built once into the cache, while cargo builds the rest: first comes the sandbox, which needs
# no AWS SDK. All of the workspace is named for it too, or cargo would choose other features for shared dependencies and build them twice.
image: tools ## build all that `build` does, and the machines' image and the Python environment into the cache
	@[ -x $(BIN)/infra ] || echo "The first build takes 10 to 15 minutes; meanwhile the machines' image is made, in about two."
	$(CARGO) build --workspace --bin sandbox --locked $(FEATURES)
	@$(SUDO) true
	@$(MAKE) --no-print-directory -j2 image-alone build FEATURES='$(FEATURES)'

image-alone:
	$(SUDO) $(BIN)/sandbox image

clean-sandbox: build ## remove a sandbox that was left behind
	$(SUDO) $(BIN)/sandbox down
