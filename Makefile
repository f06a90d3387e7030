# Everything that is done to this repository, one word each. ARGS goes to the program:
#   make dev ARGS="--port 9000"      make test ARGS="contacts -- --test-threads=1"      make bench ARGS="p1 p4"

.DEFAULT_GOAL := help
.PHONY: help setup dev test fuzz lint fmt doc bench bench-quick security

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing on this machine (PostgreSQL's programs, a C compiler …)
	@scripts/setup

# The unoptimised profile: seconds after an edit, where the release profile takes minutes.
# `exec` leaves the server as the only process between the terminal and its Ctrl-C.
dev: setup ## Run everything on this machine: PostgreSQL, server, two demo tenants
	@cargo build
	@exec cargo run --quiet -- dev $(ARGS)

test: ## Run every test, against a PostgreSQL of its own
	@scripts/setup test
	@# Half of the time a test waits for its servers.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(getconf _NPROCESSORS_ONLN)))} cargo test --all-features $(ARGS)

# A quarter of an hour; ARGS="--max-time 3600" is an hour.
fuzz: ## Ask a server of its own everything its OpenAPI document allows, and much that it does not
	@scripts/fuzz $(ARGS)

# rustdoc reuses what clippy checked: same features, same profile. The second clippy is the crate as embedders build it.
lint: ## Formatting, clippy, dependencies, documentation: everything a reviewer should not have to say
	@scripts/setup lint
	cargo fmt --all --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo clippy --no-default-features --lib --example embed -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --all-features --no-deps --quiet
	cargo deny check bans licenses sources

fmt: ## Format the code
	cargo fmt --all

doc: ## Build the API documentation of the library
	cargo doc --all-features --no-deps

bench: ## Compare with the bare handler and the usual ways (prints Markdown)
	@scripts/setup bench
	cargo bench --features testing --bench compare -- $(ARGS)

# Three rounds of three seconds: what is measured takes three minutes.
bench-quick: ## P1 to P3 alone, in under five minutes
	@scripts/setup bench
	cargo bench --features testing --bench compare -- p1 p2 p3 --seconds 3 --rounds 3

# Half an hour; ARGS="--samples 1000" is a look.
security: ## Measure whether the time of an answer tells who has an account, and what 500 logins at once do to others
	@scripts/setup
	cargo bench --features testing --bench compare -- security $(ARGS)
