# The two commands that a newcomer needs are `make demo` and `make test`. Both need root, since the sandbox boots machines.
# Build output lives outside the checkout, so that a fresh clone does not compile the AWS SDK again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/infra/target
BIN := $(CARGO_TARGET_DIR)/debug
ORDER ?= switch-only
FENCE ?= pause

# Machines, bridges and mounts need root; whoever is not root is asked by sudo, and builds as himself all the same.
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo -E env "PATH=$$PATH")
CACHE := $(or $(INFRA_SANDBOX_CACHE),$(HOME)/.cache/infra-sandbox)

.PHONY: demo test test-aws build check tools image clean-sandbox

build: tools
	cargo build --workspace --bins --locked

demo: build
	$(SUDO) $(BIN)/sandbox demo --order $(ORDER) --fence $(FENCE)

# The whole suite: the sandbox's AWS API, then everything in Rust; the tests that boot machines raise one sandbox after the other.
test: image test-aws
	$(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)') cargo test --workspace --locked --no-fail-fast

test-aws: image
	cd sandbox/aws && $(CACHE)/venv/bin/python -m unittest -q

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Debian packages that the sandbox and the tests use; says what it installs, and does nothing when all are there.
tools:
	@sh .ci/tools

# The machines' image and the Python environment, built once into the cache.
image: build
	$(SUDO) $(BIN)/sandbox image

clean-sandbox: build
	$(SUDO) $(BIN)/sandbox down
