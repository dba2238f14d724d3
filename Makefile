# Everything runs in .venv, which is made on first use and brought up to date when the requirements change.
# torch's build without CUDA is gigabytes smaller: see the README, "Install".

PYTHON ?= python3
PROTO = protos/featurelens/v1/classifier.proto
INFERENCE = $(sort $(wildcard protos/inference/*.proto))

bin = .venv/bin
requirements = pyproject.toml constraints.txt
install = $(bin)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt
peers = triton mlserver torchserve litserve
# $(call need,COMMAND,PACKAGE): see that a command is there, which Debian has in that package.
need = command -v $(1) > /dev/null || if [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install --yes $(2); \
    else echo '$(1) is missing: sudo apt-get install $(2)' >&2; exit 1; fi

.PHONY: help setup demo serve test test-long test-containers check train protos bench bench-operations bench-peers \
    h2load prometheus java pictures clean
.DELETE_ON_ERROR:

help: ## Show this help
	@echo 'usage: make TARGET'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: .venv/all ## Install everything that work on featurelens needs, torch included
	@echo 'Ready: $(bin)/featurelens --help'

demo: .venv/server ## Install the server, classify sample digits, draw their feature maps; no torch
	$(bin)/python -m scripts.demo out/demo

serve: .venv/server ## Serve the LeNet that ships on 127.0.0.1:8001, until Ctrl-C
	$(bin)/featurelens serve

test: .venv/all h2load prometheus ## Run every test that needs no Docker engine, with coverage
	$(bin)/pytest -m 'not containers' --cov --cov-report=term:skip-covered

test-long: .venv/all .venv-foreign/installed ## Run the onnx package's test cases, other tools' models; 1,000 swaps
	$(bin)/python -m tests.onnx_suite
	.venv-foreign/bin/python -m tests.foreign
	.venv-foreign/bin/python -m pytest -q -s -p no:cacheprovider tests/foreign/test_transforms.py
	$(bin)/python -m tests.e2e.swaps 1000

test-containers: .venv/all ## Build the image and test it with docker-compose
	$(bin)/pytest -m containers
	docker image ls featurelens-server

check: .venv/all ## Lint, format and type checks; the generated code is up to date
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(MAKE) protos
	git diff --exit-code -- protos

train: .venv/all ## Train LeNet on MNIST, export it, write the report: out/models/lenet/1
	$(bin)/featurelens train

protos: .venv/all ## Generate the Python code of protos/
	PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
	    --mypy_out=. --mypy_grpc_out=. $(PROTO)
	PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/python -m grpc_tools.protoc -I. --mypy_out=. \
	    --descriptor_set_out=protos/inference/descriptors.binpb $(INFERENCE)

bench: .venv/all h2load ## Measure the server and what limits it, 7 minutes: table, JSON, chart in out/bench
	$(bin)/python -m benchmarks.speed

bench-operations: .venv/all h2load ## What metrics, the access log and tokens cost, each switched on alone
	$(bin)/python -m benchmarks.speed --operations

bench-peers: .venv/all h2load java $(peers:%=.venv-peers/%/installed) ## The same beside other model servers
	$(bin)/python -m benchmarks.speed --peers

h2load:
	@$(call need,h2load,nghttp2-client)

prometheus:
	@$(call need,prometheus,prometheus)

java:
	@$(call need,java,openjdk-17-jre-headless)

pictures: .venv/all ## Draw 300 digits as people send them; at least 90 % must come out right
	$(bin)/python -m benchmarks.pictures out/pictures --count 300
	$(bin)/python -m scripts.serving $(bin)/featurelens batch out/pictures --output out/pictures.csv
	$(bin)/python -m benchmarks.miss_sheet out/pictures.csv --sheet out/misses.png

clean: ## Delete .venv and everything else that can be made again
	rm -rf .venv .venv-foreign .venv-peers out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

# Stamps: newer than the requirements they were installed from.
.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python %d.%d is too old, featurelens needs 3.11: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	touch $@

.venv/server: .venv/python $(requirements)
	$(install) -e '.[server]'
	touch $@

.venv/all: .venv/python $(requirements)
	$(install) -e '.[server,otel,training,dev]'
	touch .venv/server $@

.venv-peers/%/installed: benchmarks/speed/peers/%.txt
	$(PYTHON) -m venv .venv-peers/$*
	.venv-peers/$*/bin/python -m pip install --disable-pip-version-check --progress-bar on -r $<
	touch $@

# Two steps: the packages of the second are wanted for their files, not for what they would bring along.
.venv-foreign/installed: $(wildcard tests/foreign/*.txt) $(requirements)
	$(PYTHON) -m venv .venv-foreign
	.venv-foreign/bin/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt \
	    -r tests/foreign/requirements.txt -e '.[server]'
	.venv-foreign/bin/python -m pip install --disable-pip-version-check --progress-bar on --no-deps \
	    -r tests/foreign/files.txt
	touch $@
