# The two commands that a newcomer needs are `make demo` and `make test`. Both need root, since the sandbox boots machines.
# Build output lives outside the checkout, so that a fresh clone does not compile the AWS SDK again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/infra/target
BIN := $(CARGO_TARGET_DIR)/debug
ORDER ?= switch-only

.PHONY: demo test build check tools clean-sandbox

# Debian packages that the sandbox and the tests use; says what it installs, and does nothing when all are there.
tools:
	@sh .ci/tools

build: tools
	cargo build --workspace --bins

demo: build
	$(BIN)/sandbox demo --order $(ORDER)

test: tools
	cargo test --workspace

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

clean-sandbox: build
	$(BIN)/sandbox down
