# EmbBERT from text to a Cortex-M.
#
#   make demo                                      the whole pipeline on examples/voice_commands
#   make demo TRAIN=a.csv TEST=b.csv NAME=x        the same on your own CSV (text,label); with
#                                                  TASK=regression, the label is a score
#   make test                                      the tests, in six to ten minutes
#   make test SLOW=1                               every test, as continuous integration runs them
#   make coverage                                  every test, and the lines that they reach
#
# All of them set up what is missing first: .venv, the package in it, Debian's Arm toolchain and
# QEMU. FUZZ_SECONDS=60 makes `make test` fuzz longer.

SHELL := /bin/sh
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON := .venv/bin/python
# The Python that .venv is made from; TensorFlow's tools for this project need 3.11.
PYTHON3 ?= $(shell command -v python3.11 || command -v python3)
DEBIAN := gcc gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm python3-venv clang lld
# clang's sanitizers and fuzzer are a package of their own; chromium opens pages.
DEBIAN_TEST := libclang-rt-dev clang-format clang-tidy bazel-bootstrap cmake chromium chromium-driver
# What builds exports for Arduino; not every release of Debian has it.
DEBIAN_ARDUINO := arduino-builder arduino-ctags

.PHONY: help setup setup-debian setup-debian-test demo test coverage lint firmware clean

help:
	@echo 'make demo [TRAIN=a.csv TEST=b.csv NAME=x]   train, quantize, convert, run on a board'
	@echo '          [VALID=c.csv]                     validation rows; else a tenth of TRAIN'
	@echo '          [TASK=regression]                 the label is a score, not a class'
	@echo '          [INIT=zoo/backbone]               run to start from; INIT= for random weights'
	@echo '          [FLAGS="--target=mps3-an547 --train_flags=--epochs=5"]   of converters.pipeline'
	@echo 'make test                                  the tests, but for the slow ones'
	@echo 'make test SLOW=1                           every test, as continuous integration'
	@echo 'make coverage                              every test, and the lines that they reach'
	@echo 'make lint                                  style, types, directions of imports'
	@echo 'make setup                                 only set up'
	@echo 'make -C tflm_app help                      the firmware of a model folder'

# ---- Set-up -------------------------------------------------------------------------------------

setup: setup-debian .venv/stamp

# Looks for what the packages bring, so that a toolchain from elsewhere does as well.
setup-debian:
	@missing=; \
	command -v gcc >/dev/null || missing="$$missing gcc"; \
	command -v arm-none-eabi-gcc >/dev/null || missing="$$missing gcc-arm-none-eabi"; \
	command -v qemu-system-arm >/dev/null || missing="$$missing qemu-system-arm"; \
	if command -v arm-none-eabi-gcc >/dev/null && \
	  [ "$$(arm-none-eabi-gcc -print-file-name=nano.specs)" = nano.specs ]; then \
	  missing="$$missing libnewlib-arm-none-eabi"; fi; \
	command -v arm-none-eabi-gcc >/dev/null || missing="$$missing libnewlib-arm-none-eabi"; \
	[ -x $(PYTHON) ] || $(PYTHON3) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v clang >/dev/null || missing="$$missing clang"; \
	command -v wasm-ld >/dev/null || missing="$$missing lld"; \
	$(call install,$$missing)

setup-debian-test: setup-debian
	@missing=; \
	for tool in clang-format clang-tidy chromium; do \
	  command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	ls "$$(clang -print-runtime-dir 2>/dev/null)"/libclang_rt.fuzzer* >/dev/null 2>&1 || \
	  missing="$$missing libclang-rt-dev"; \
	command -v bazel >/dev/null || missing="$$missing bazel-bootstrap"; \
	command -v cmake >/dev/null || missing="$$missing cmake"; \
	command -v chromedriver >/dev/null || missing="$$missing chromium-driver"; \
	for tool in $(DEBIAN_ARDUINO); do command -v $$tool >/dev/null || \
	  ! apt-cache show $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	$(call install,$$missing)

# Installs packages as root, else says how.
install = if [ -n "$1" ]; then \
	  if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $1; \
	  else \
	    echo "missing:$1; run: sudo apt-get install -y --no-install-recommends$1" >&2; exit 1; \
	  fi; \
	fi

.venv/stamp: pyproject.toml | setup-debian
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed; say where: make PYTHON3=/path/to/python3.11" >&2; exit 1; }
	@[ -x $(PYTHON) ] || $(PYTHON3) -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# ---- Work ---------------------------------------------------------------------------------------

ifeq ($(value TRAIN),)
  override TRAIN := examples/voice_commands/train.csv
  override TEST := $(or $(value TEST),examples/voice_commands/test.csv)
  NAME ?= voice_commands
endif
NAME ?= own
FLAGS ?=
# They go through the environment: no character of them is the shell's or make's.
override TRAIN := $(value TRAIN)
override TEST := $(value TEST)
override VALID := $(value VALID)
override NAME := $(value NAME)
override TASK := $(value TASK)
override INIT := $(if $(filter undefined,$(origin INIT)),unset,$(value INIT))
export TRAIN TEST VALID NAME TASK INIT
demo: setup
	@if [ -z "$$TEST" ]; then echo "make demo: TRAIN= needs TEST= beside it" >&2; exit 2; fi
	@set -- --name="$$NAME" --train="$$TRAIN" --test="$$TEST"; \
	if [ -n "$$VALID" ]; then set -- "$$@" --valid="$$VALID"; fi; \
	if [ -n "$$TASK" ]; then set -- "$$@" --task="$$TASK"; fi; \
	if [ "$$INIT" != unset ]; then set -- "$$@" --init="$$INIT"; fi; \
	$(PYTHON) -m converters.pipeline "$$@" $(FLAGS)

# In as many processes as there are processors, to four. `coverage` is the same and measures the line
# coverage of the library folders along the way, which makes Python half as slow again.
test coverage: setup-debian-test .venv/stamp lint
	$(PYTHON) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
	  --no-loadscope-reorder $(if $(SLOW)$(filter coverage,$@),,-m "not slow") \
	  $(if $(filter coverage,$@),--cov --cov-report=term:skip-covered --cov-fail-under=90)

# Style, types of the public functions, directions of imports (pyproject.toml says which).
lint: setup-debian-test .venv/stamp
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.cc' '*.h')

clean:
	rm -rf build tflm_app/build
