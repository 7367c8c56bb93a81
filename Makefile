# The project's commands. Each installs what it needs, and does nothing twice.

.PHONY: quickstart test lint libtorch build docs fixtures swarm privacy-table clean

## Install LibTorch, build, and play scenarios/quickstart.ron.
quickstart: build
	@# A run that was finished before is only checked, one that was interrupted goes on.
	@if grep -q '"state": "running"' runs/quickstart/manifest.json 2>/dev/null; then \
		target/release/fedreplay resume runs/quickstart; \
	elif [ -e runs/quickstart/manifest.json ]; then \
		target/release/fedreplay verify runs/quickstart; \
	else \
		target/release/fedreplay run scenarios/quickstart.ron; \
	fi

## Install what is missing and run all tests.
test: libtorch
	cargo test --release --workspace --locked
	@[ -n "$$FEDREPLAY_REAL_DATA" ] || echo "$$(cargo test --release --locked --quiet --test suite real_data:: -- --list \
		| grep -c ': test$$') tests of real files were not run: FEDREPLAY_REAL_DATA is not set"

## Formatting and warnings, as CI checks them.
lint: libtorch
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	tools/check-architecture

build: libtorch
	cargo build --release --locked

libtorch:
	@tools/libtorch/install

## Write the generated pages of docs/ anew; a test compares them with what the program says.
docs: build
	target/release/fedreplay generate scenario-reference > docs/scenario.md
	target/release/fedreplay generate ledger-reference > docs/ledger.md

## Make the tiny base model and its federation again (about four minutes, nearly all of it pretraining).
fixtures: libtorch
	cargo run --release --locked --example make-fixtures -- fixtures

## Play random small worlds with faults from seeds that no test has seen: `make swarm SEEDS=50000..60000`.
SEEDS ?= 10000..20000
swarm:
	FEDREPLAY_SWARM=$(SEEDS) cargo test --release --locked -p fedreplay-sim --test sim swarm

## Utility against epsilon on the tiny model, beside FedLLM-Bench's FedDP with what it claims.
privacy-table: build
	@tools/privacy-table

clean:
	cargo clean
	rm -rf .libtorch runs
