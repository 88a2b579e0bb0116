# SPDX-License-Identifier: Apache-2.0
# make demo | test | prove | bench | build: each sets up all it needs in .venv, the first time only.
#   PYTHON=python3.12      the interpreter; where it can import torch >= 2.10, that torch is used
#   TORCH=torch==2.13.0    what pip installs otherwise
#   CXX=g++                the C++17 compiler
#   LTLSTM_CUDA=1 or 0     with the CUDA library, or without; where not said, if nvcc is there and
#                          torch is a CUDA build
#   BUDGET=30              seconds in which `make demo` trains the models of its first table, and
#   GROW_BUDGET=75         those of its second
#   BENCH='--seconds 0.3'  what `make bench` hands to python -m bench

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
ifeq ($(origin CXX),default)
  CXX = g++
endif
export CXX
BUDGET ?= 30
GROW_BUDGET ?= 75
export PATH := $(abspath $(VENV))/bin:$(PATH)

RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip --disable-pip-version-check install --quiet
PYTEST = $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder
# A line says what is done and for about how long on 2 cores of a Zen 3, not every command. The
# seconds are rough: CPU time, taken on a machine that was shared.
SAY = @echo "ltlstm:"
BUILD_INPUTS = setup.py pyproject.toml $(shell find csrc -type f)

# Which package brings a missing tool, in the words of this system's package manager.
SUDO = $(if $(filter 0,$(shell id -u)),,sudo )
ifneq ($(shell command -v dnf),)
  BRING = $(SUDO)dnf install
  CXX_PACKAGE = gcc-c++
  HEADERS_PACKAGE = python3-devel
else
  BRING = $(SUDO)apt-get install
  CXX_PACKAGE = g++
  HEADERS_PACKAGE = python3-dev
  VENV_PACKAGE = python3-venv
endif

define check_tools
@need() { \
  what="$$1"; package="$$2"; shift 2; \
  "$$@" >/dev/null 2>&1 || { echo "$$what. This brings it: $(BRING) $$package" >&2; exit 1; }; \
}; \
need "Python 3.10 or later is missing ($(PYTHON))" "python3 $(VENV_PACKAGE) $(HEADERS_PACKAGE)" \
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))'; \
need "venv is missing from $(PYTHON)" "$(VENV_PACKAGE)" $(PYTHON) -c 'import ensurepip, venv'; \
need "Python.h is missing for $(PYTHON)" "$(HEADERS_PACKAGE)" \
  $(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'; \
need "A C++17 compiler is missing ($(CXX))" "$(CXX_PACKAGE)" \
  sh -c 'echo "#include <vector>" | $(CXX) -std=c++17 -fsyntax-only -x c++ -'
endef

# Exits 0 where torch >= 2.10 imports, and prints the folder that holds it.
FIND_TORCH = import sys, torch; print(torch.__path__[0].rpartition("/")[0]); \
  sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10))

# Tests of the modules that also run on the kernels for what fits on no chip.
STREAMED = $(addprefix tests/test_,features_lengths.py lstm.py lt_lstm_stream.py operators_gradients.py)
# Tests whose numbers depend on the processor, or on what torch takes it for.
NUMBERS = $(filter-out %_compile.py %_bad_input.py,$(wildcard tests/test_operators*.py tests/test_lstm*.py tests/test_lt_lstm*.py \
  tests/test_features_*.py tests/test_h_lstm*.py tests/test_sparse.py tests/test_cells.py \
  tests/test_residual_lstm.py tests/test_activations.py))

.PHONY: build demo test prove bench tools clean
.DELETE_ON_ERROR:

build: $(VENV)/.built

test: $(VENV)/.dev
	$(SAY) "tests of a change: 8 to 10 minutes on 2 cores (make prove runs the others)"
	@$(PYTEST) -m "not prove"

prove: $(VENV)/.dev
	$(SAY) "what make test leaves out (tests/proofs.py): sanitizers, planted defects, compilers"
	@$(PYTEST) -m prove
	$(SAY) "modules and operators over the CUDA binding on emulated kernels"
	@LTLSTM_BACKEND=emulated $(PYTEST)
	@LTLSTM_BACKEND=emulated LTLSTM_CUDA_REGIME=streamed $(PYTEST) $(STREAMED)
	$(SAY) "numbers on narrower instruction sets than this machine's"
	@environments=$$($(RUN) tests/proofs.py) || exit 1; \
	echo "$$environments" | while read -r settings; do \
	  test "$$settings" || continue; echo "ltlstm: $$settings"; \
	  env $$settings $(PYTEST) -m "not prove" $(NUMBERS) </dev/null || exit 1; done

demo: $(VENV)/.recipes
	$(SAY) "speaks a corpus (40 s, the first time), then trains LSTM, ResidualLSTM and LTLSTM for" \
	  "$(BUDGET) s in all (BUDGET=) and tests them (20 s)"
	@$(RUN) -m ltlstm.recipes.senone --budget $(BUDGET)
	$(SAY) "trains dense LSTMs and grows and prunes an HLSTM and an LSTM for $(GROW_BUDGET) s in all" \
	  "(GROW_BUDGET=), then tests and times them (40 s)"
	@$(RUN) -m ltlstm.recipes.senone --model hlstm --grow-prune --seeds 1 --budget $(GROW_BUDGET) \
	  --out runs/hlstm-demo

bench: $(VENV)/.bench
	$(RUN) -m bench $(BENCH)

tools:
	$(check_tools)

# A venv of PYTHON's own packages where PYTHON has torch. A PYTHON that is itself in a venv does not
# hand its packages on, so the folder of its torch is named in a .pth file.
$(VENV)/.torch:
	$(check_tools)
	@test -x $(RUN) || { \
	  echo "ltlstm: creating $(VENV) (10 s)"; \
	  if host=$$($(PYTHON) -c '$(FIND_TORCH)' 2>/dev/null); then \
	    $(PYTHON) -m venv --system-site-packages $(VENV) && \
	    { $(RUN) -c '$(FIND_TORCH)' >/dev/null 2>&1 || echo "$$host" > \
	      "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/host_torch.pth"; }; \
	  else \
	    $(PYTHON) -m venv $(VENV); \
	  fi; }
	@$(RUN) -c '$(FIND_TORCH)' >/dev/null 2>&1 || { \
	  echo "ltlstm: installing $(TORCH): a download of 0.2 GB for a CPU build, of about 3 GB for the CUDA" \
	    "build that pip takes by default on Linux (PYTHON= with a torch >= 2.10 avoids it)"; \
	  $(PIP) "$(TORCH)"; }
	$(SAY) "installing what the build needs (10 s)"
	@$(PIP) 'setuptools>=77' wheel 'pybind11>=2.13' ninja
	@touch $@

$(VENV)/.built: $(VENV)/.torch $(BUILD_INPUTS)
	@$(check_tools)
	$(SAY) "compiling: about 3 minutes on 2 cores for the CPU; 5 more with CUDA (where nvcc is and" \
	  "torch is a CUDA build, or LTLSTM_CUDA=1 asks); less where ccache is and has seen it"
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev $(VENV)/.recipes $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(VENV)/.built
	$(SAY) "installing the packages of the extra '$*' (20 s)"
	@$(PIP) $$($(RUN) -c 'from importlib.metadata import requires; \
	  print(*[r.partition(";")[0].replace(" ", "") for r in requires("ltlstm") if "\"$*\"" in r])')
	@touch $@

clean:
	rm -rf build dist ltlstm_kernels/*.so $(VENV)/.built
