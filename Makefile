# SPDX-License-Identifier: Apache-2.0
# One command each; `make` alone lists them.
SHELL := /bin/bash
PRESET ?= release
BUILD := build/$(PRESET)
ARGS ?=
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help deps deps-test build run run-services test test-services matrix check fmt bench test-containers clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## install the packages that building and running need (apt, as root or through sudo)
	@tools/deps build

deps-test: ## … and those that the tests need
	@tools/deps build test

$(BUILD)/build.ninja: | deps
	@cmake --preset $(PRESET)

build: deps $(BUILD)/build.ninja ## build the release
	@ninja -C $(BUILD) flexiconnect

run: build ## build and start everything in one process (ARGS="--http-listen 127.0.0.1:0" and the like)
	@exec $(BUILD)/flexiconnect $(ARGS)

run-services: deps-test build ## start every service on PostgreSQL, MongoDB, RabbitMQ and a mail catcher, in temporary folders, until Ctrl-C
	@exec tools/run-services $(BUILD)/flexiconnect $(ARGS)

test: deps-test $(BUILD)/build.ninja ## build everything and run every test; the last line counts them
	@ninja -C $(BUILD)
	@tools/run-tests $(BUILD)

test-services: deps-test build ## the system suite on real PostgreSQL, RabbitMQ, MongoDB and SMTP, each service a process (a part of make test)
	@FLEXI_TEST_ON=services FLEXI_BINARY=$(BUILD)/flexiconnect /usr/bin/python3 -m pytest tests/system -n "$$(nproc)" -q -p no:cacheprovider -rs $(ARGS)

matrix: deps-test build ## write docs/matrix.md: every action by every way, as a test sees it
	@FLEXI_WRITE_MATRIX=1 FLEXI_BINARY=$(BUILD)/flexiconnect /usr/bin/python3 -m pytest tests/system/test_matrix.py -q -p no:cacheprovider

check: deps-test ## the tests under address, undefined-behaviour and thread sanitizer, then each fuzz target for FUZZ_SECONDS
	@tools/check $(FUZZ_SECONDS)

fmt: ## format the C++ sources
	@git ls-files 'src/*.cpp' 'src/*.hpp' 'tests/*.cpp' 'bench/*.cpp' | xargs clang-format-16 -i

bench: ## measure, beside nginx, bare SQLite, grpc++, bare librabbitmq, crypt(3), pgbench and libmongoc, in one run
	@tools/deps build bench
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) flexiconnect sqlite_commit_bench path grpcpp_path amqp_bench bcrypt_bench postgres_lookups mongo_insert_bench mail_bench
	@/usr/bin/python3 bench/run.py $(BUILD)

test-containers: deps-test $(BUILD)/build.ninja ## make all images without a registry, start the stack on an engine of the tests' own, and test it (docs/containers.md)
	@tools/deps containers
	@ninja -C $(BUILD) flexiconnect rpc_call
	@tools/test-containers $(BUILD) $(ARGS)

clean: ## remove what was built (not ./flexiconnect-data)
	rm -rf build

include deploy/compose.mk
include deploy/swarm.mk
