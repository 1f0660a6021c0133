# What one does with TraceProbe. `make` alone lists it.
DOTNET ?= dotnet
CONFIGURATION ?= Release
PREFIX ?= /usr/local
OUT := artifacts/traceprobe
TESTS := Core Capture Cluster Agent Cli Lab Scenarios
export DOTNET_CLI_TELEMETRY_OPTOUT = 1
export DOTNET_NOLOGO = 1

.DEFAULT_GOAL := help
.PHONY: help deps build demo test test-kernels test-matrix test-mutations test-quiet test-soak verify bench install clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what is missing from Debian (says what; needs root only then)
	@deploy/install-dependencies.sh

build: deps ## Build everything, and put the program into artifacts/traceprobe
	@$(DOTNET) build TraceProbe.sln -c $(CONFIGURATION) -v q
	@deploy/publish.sh $(OUT)

demo: build ## Raise a lab, follow a healthy request and the failures of the README through it (root)
	@tests/demo.sh $(OUT)/traceprobe

test: build ## Run the whole test suite (root, for the parts that need a kernel)
	@TRACEPROBE_EXECUTABLE=$(abspath $(OUT))/traceprobe tests/run.sh $(TESTS)

test-kernels: build ## Boot Debian's kernels 5.10, 6.1 and 6.12 in emulated machines and try them (root, up to an hour)
	@deploy/install-dependencies.sh kernels
	@tests/kernels/run.sh

verify: test ## What CI runs

test-matrix: build ## Break a lab in every way, in every mode of kube-proxy, asked in every way, for the README's tables (root, an hour; FAULTS=… MODES=… COLUMNS=… for a part)
	TRACEPROBE_EXECUTABLE=$(abspath $(OUT))/traceprobe FAULTS="$(FAULTS)" MODES="$(MODES)" COLUMNS_OF_MATRIX="$(if $(filter command line,$(origin COLUMNS)),$(COLUMNS))" tests/matrix.sh

test-quiet: build ## Make two hundred thousand healthy connections under an agent's eyes: none may be told as a failure (root, minutes; CONNECTIONS=… for others)
	tests/quiet.sh $(abspath $(OUT))/traceprobe $(or $(CONNECTIONS),200000)

test-soak: build ## A hundred clients of a lab with two agents, faults at random, agents killed, receivers taken away (root, MINUTES=… of faults, 10 without it, and 7 more)
	TRACEPROBE_SOAK=$(or $(MINUTES),10) TRACEPROBE_EXECUTABLE=$(abspath $(OUT))/traceprobe tests/TraceProbe.Scenarios.Tests/bin/$(CONFIGURATION)/net10.0/TraceProbe.Scenarios.Tests -class '*.Soak' -showLiveOutput -noLogo

test-mutations: build ## Damage each recorded rule set at a thousand places, and see each damage told (minutes; needs ../shared)
	TRACEPROBE_MUTATIONS=1000 $(DOTNET) test tests/TraceProbe.Cluster.Tests -c $(CONFIGURATION) --no-build --nologo --filter FullyQualifiedName~AThousandDamages
	TRACEPROBE_MUTATIONS=500 $(DOTNET) test tests/TraceProbe.Lab.Tests -c $(CONFIGURATION) --no-build --nologo --filter FullyQualifiedName~IpvsCheckTests.Damages

bench: build ## Measure the readers of packets, names, API objects and rules (minutes; rules as root)
	$(DOTNET) run -c Release --project tests/TraceProbe.Benchmarks -- --filter '*' --job short --inProcess
	$(DOTNET) run -c Release --project tests/TraceProbe.Benchmarks -- api
	TRACEPROBE_EXECUTABLE=$(abspath $(OUT))/traceprobe $(DOTNET) run -c Release --project tests/TraceProbe.Benchmarks -- rules

install: build ## Install the program under PREFIX (/usr/local)
	install -d $(PREFIX)/lib/traceprobe $(PREFIX)/bin
	cp -r $(OUT)/. $(PREFIX)/lib/traceprobe/
	ln -sf ../lib/traceprobe/traceprobe $(PREFIX)/bin/traceprobe

clean: ## Remove what was built
	rm -rf artifacts bpf/*.o
	find src tests -depth -type d \( -name bin -o -name obj -o -name TestResults \) -exec rm -rf {} +
