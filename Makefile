# XLB. `make help` lists what there is.
MAKEFLAGS += --no-print-directory --no-builtin-rules
SHELL = /bin/bash
PREFIX ?= /usr/local
export PATH := $(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin

CLANG ?= $(or $(shell command -v clang-19),$(shell command -v clang),clang)
ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
# v3: 32-bit atomics, which clang knows from 12 on and each kernel that we run on takes.
BPF_CFLAGS = -O2 -g -mcpu=v3 -Wall -target bpf -D__TARGET_ARCH_$(ARCH) -I build -I bpf
BTF = /sys/kernel/btf/vmlinux

# Files may come and go; what is not there yet is not depended on.
SOURCES := $(shell find src -name '*.ts' -not -path '*/gen/*')
TESTS := $(sort $(shell find test -name '*.test.ts' 2>/dev/null))
# Those that load programs, open sockets in enrolled cgroups or run the product need root and a machine to themselves.
ROOT_TESTS := $(filter test/kernel/% test/e2e/% test/cli/exec.%,$(TESTS))
UNIT_TESTS := $(filter-out $(ROOT_TESTS) test/soak/%,$(TESTS))
# Those that only compute: no socket, no process, no time that matters. Two at a time do not disturb each other.
PURE_TESTS := $(filter-out %/against-envoy.test.ts,$(filter \
  test/balancing/% test/compile/% test/envoy/% test/envoydiff/% test/route/% test/sync/%,$(UNIT_TESTS)))
# What failed stands once more at the end, a line each: FAILED says where to.
FAILED = stdout
RUN_TESTS = node --import tsx --test --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=./tools/failing.mjs --test-reporter-destination=$(FAILED)

.PHONY: all help setup setup-peers build bundle layout fields demo test check bench soak differential envoy-diff verify install uninstall clean
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

all: build ## set-up and build; the default

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

# --- set-up -----------------------------------------------------------------------------------------------------------

setup:
	@tools/setup.sh build

setup-peers:
	@tools/setup.sh build peers

# npm's own record of what it installed is the stamp. Not `npm ci`: it refuses the lock file where a registry lacks the
# binary of some other platform, an optional package. This installs what the lock file says too, and does not change it.
node_modules/.package-lock.json: package.json package-lock.json
	@npm install --no-save --loglevel=error
	@touch $@

# --- build ------------------------------------------------------------------------------------------------------------

build: setup
	@$(MAKE) bundle

# A second make, so that it sees what set-up has installed.
bundle: build/xlb.bpf.o build/probe.bpf.o build/xlb_native.node dist/xlb.mjs
	@:

build/vmlinux.h:
	@mkdir -p build
	@if [ ! -r $(BTF) ]; then echo "build: no $(BTF): this kernel has no BTF, the BPF object is left out" >&2; \
	elif ! command -v bpftool >/dev/null; then echo "build: no bpftool, the BPF object is left out" >&2; \
	else bpftool btf dump file $(BTF) format c >$@.new && mv $@.new $@; fi

build/xlb.bpf.o build/probe.bpf.o: build/%: $(shell find bpf -name '*.[ch]') | build/vmlinux.h
	@if [ ! -e build/vmlinux.h ]; then exit 0; \
	elif ! command -v $(CLANG) >/dev/null; then echo "build: no clang, the BPF object is left out" >&2; \
	else echo "clang  $@"; $(CLANG) $(BPF_CFLAGS) -c bpf/$(*:.o=.c) -o $@; fi

build/xlb_native.node: $(wildcard native/*) node_modules/.package-lock.json
	@mkdir -p build
	@if [ ! -e /usr/include/bpf/libbpf.h ] || ! command -v cc >/dev/null; then \
	  echo "build: no libbpf or no C compiler, the shim is left out: slow path only" >&2; \
	else echo "cc     $@"; native/build.sh; fi

src/envoy/gen/envoy.binpb: $(wildcard tools/protogen*) node_modules/.package-lock.json
	@echo "protos $@"
	@node tools/protogen.mjs
	@touch $@

dist/xlb.mjs: $(SOURCES) src/envoy/gen/envoy.binpb tools/build.mjs package.json node_modules/.package-lock.json
	@echo "bundle $@"
	@node tools/build.mjs

layout: setup build/vmlinux.h node_modules/.package-lock.json ## write src/tables/layout.gen.ts anew, after a change to bpf/contract.h
	tsx tools/layoutgen.ts

fields: build ## write docs/fields.md anew: what becomes of each of Envoy's fields
	@tsx tools/fieldpage.ts

# --- use --------------------------------------------------------------------------------------------------------------

demo: setup-peers build ## a small application balanced by XLB, measured against direct and its peers
	@tsx examples/bookinfo/demo.ts

bench: setup-peers build ## the table of issue 3, and the cost of a match, into bench/results/latest.json
	@tsx bench/bench.ts

soak: setup-peers build ## millions of requests with aborts; looks for leaks
	@tsx test/soak/soak.ts

# --- proof ------------------------------------------------------------------------------------------------------------

# Both halves run, and tell at the end what failed in either.
test: FAILED = build/failed.txt
test: setup-peers build ## every test; those of the kernel one after the other
	@$(RUN_TESTS) --test-concurrency=2 $(PURE_TESTS); pure=$$?; mv build/failed.txt build/failed-pure.txt; \
	$(RUN_TESTS) --test-concurrency=1 $(filter-out $(PURE_TESTS),$(UNIT_TESTS)) $(ROOT_TESTS); others=$$?; \
	cat build/failed-pure.txt build/failed.txt; exit $$((pure | others))

check: build ## what needs no root: types, lint, house rules, unit tests
	@tsc --noEmit
	@biome check --error-on-warnings .
	@$(RUN_TESTS) $(UNIT_TESTS)

differential: setup-peers build ## 10,000 random requests, direct and through XLB: the same answers, byte for byte
	@tsx test/differential.ts --through xlb --count 10000

envoy-diff: build ## random configurations: every path answers as a real Envoy does [SEED CONFIGS REQUESTS ONLY ACTIONS OWN]
	@tsx test/envoydiff/main.ts --seed $(or $(SEED),1) --configs $(or $(CONFIGS),200) --requests $(or $(REQUESTS),500) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(ACTIONS),--actions $(ACTIONS)) $(if $(OWN),--own) $(if $(SAVE),--save $(SAVE))

verify: build ## the programs pass this kernel's verifier within their budgets
	@tsx tools/verifydiff.ts

# --- install ----------------------------------------------------------------------------------------------------------

LIB = $(DESTDIR)$(PREFIX)/lib/xlb

install: build ## copy the program under PREFIX (/usr/local); DESTDIR is honoured
	@rm -rf $(LIB)
	@install -d $(LIB)/bin $(LIB)/build $(DESTDIR)$(PREFIX)/bin
	@install -m 755 bin/xlb $(LIB)/bin/xlb
	@install -m 644 package.json LICENSE $(LIB)
	@cp -R --no-preserve=ownership dist $(LIB)/dist
	@for file in build/*.o build/*.node; do if [ -e $$file ]; then install -m 644 $$file $(LIB)/build; fi; done
	@ln -sfn ../lib/xlb/bin/xlb $(DESTDIR)$(PREFIX)/bin/xlb
	@echo "installed $(DESTDIR)$(PREFIX)/bin/xlb"

uninstall: ## take that away again
	@rm -rf $(LIB) $(DESTDIR)$(PREFIX)/bin/xlb

clean: ## remove what make made, but for node_modules
	@rm -rf build dist src/envoy/gen coverage
