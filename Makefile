# make setup   install what the build needs (apt; as root or with sudo)
# make build   release build
# make test    everything CI runs: formatter, debug build with warnings as errors, all tests
# make demo    set everything up, and do the main job once
# make run     the daemon on ./spool with etc/dreamcached.yaml
# make bench   speed of every part of a model of Stable Diffusion 2.1's size, with random weights
# make compare  the same, beside PyTorch and OpenVINO (Tests/Benchmarks/README.md says what to install)
# make campaigns  the fault campaigns in full, about an hour; CAMPAIGNS lists them for make campaign-NAME
# make fuzz READER=manifest FUZZ_SECONDS=60    libFuzzer on one reader: manifest, dcache, checkpoint, pickle, image, heic,
#                                              avif, webp, colour, png, metadata, drop; FUZZ_RUNS=1000000 ends it after that many inputs
# make sanitize  tests under address, undefined-behaviour and thread sanitizers, in two builds of their own; CI does not run it
# make install PREFIX=/usr DESTDIR=   after make build

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PREFIX ?= /usr
# The libraries. systemd brings systemd-analyze, with which the tests judge the units; rsync, scp and python3 are in recipes
# that the tests run, and python3 checks imports and makes the man pages.
PACKAGES := systemd rsync openssh-client python3 libdnnl-dev libopenblas-dev libpng-dev libjpeg-dev \
	libheif-dev libde265-dev libavif-dev libwebp-dev liblcms2-dev libinotifytools0-dev zlib1g-dev
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
SOURCES := Package.swift Sources Tests
RELEASE := .build/release

.PHONY: setup build test lint format demo run bench compare campaigns fuzz sanitize install clean

setup:
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi

build: setup
	swift build -c release

lint:
	swift format lint --strict --recursive $(SOURCES)
	swift package dump-package | python3 Tests/Imports/check.py .

format:
	swift format --in-place --recursive $(SOURCES)

# What the programs set for themselves (LibraryEnvironment), for the process of the tests: threads that do not turn in place for
# one another, and a processor with AMX not taken for an old one by Debian's OpenBLAS.
test sanitize-address sanitize-thread: export GOMP_SPINCOUNT := 5000
ifneq ($(shell grep -m1 -ow amx_bf16 /proc/cpuinfo),)
test: export OPENBLAS_CORETYPE := SkylakeX
endif

test: setup lint
	swift build --build-tests
	# Two runs: from fork(2) to exec(2) a child holds its parent's file locks, and tests of locks would see that.
	swift test --skip-build --skip EndToEndTests
	swift test --skip-build --filter EndToEndTests

demo: build
	spool/examples/demo.sh $(RELEASE)

run: build
	$(RELEASE)/dreamcached --config etc/dreamcached.yaml --spool spool

bench: build
	$(RELEASE)/dreamcache bench

compare: build
	python3 Tests/Benchmarks/compare.py

# Each campaign by the tests it consists of; the short versions of all of them are part of `make test`.
CAMPAIGN_kill := SpoolTests.*killedBeforeEveryMutatingCall
CAMPAIGN_kill-twice := SpoolTests.*killedAgainWhileRecovering
CAMPAIGN_requests := SpoolTests.*killedWhileCancelling
CAMPAIGN_power-cut := SpoolTests.*unsyncedOperations
CAMPAIGN_errno := SpoolTests.*(everyErrorAtEveryCall|everyWriteCutShort|StorageFaultTests)
CAMPAIGN_errno-two := SpoolTests.*everyLikelyErrorWithTwoOwners
# Some two thousand cases of a whole daemon each; DREAMCACHE_SHARE=2/5 runs a part of them.
CAMPAIGN_errno-model := EndToEndTests.*ModelErrors
CAMPAIGN_damage := SpoolTests.DamageCampaignTests
CAMPAIGN_neighbour := SpoolTests.HostileNeighbourTests
CAMPAIGN_small-disk := SpoolTests.*(aSmallDisk|FullDisk|realSpace)
CAMPAIGN_signals := SpoolTests.*(askedToStopOrReload|stoppingInTheMiddle) EndToEndTests.*Supervision
CAMPAIGN_flood := SpoolTests.*manyManifests EndToEndTests.*Floods
CAMPAIGN_inotify := SpoolTests.*(aFullEventQueue|withoutAWatcher)
CAMPAIGN_drops := SpoolTests.DropTests/(whole|paused|cutOff)
CAMPAIGN_hostile := SpoolTests.*(hostileDrops|swapsWhileReading|UntrustedBytes)
CAMPAIGN_bombs := EndToEndTests.*Decoders|RasterTests|CheckpointTests
CAMPAIGN_clock := SpoolTests.*aClockThatJumps
CAMPAIGN_daemons := SpoolTests.*twoDaemons EndToEndTests.*twoDaemons
CAMPAIGN_watch := SpoolTests.*aViewAfterTenThousandJobs
CAMPAIGN_users := SpoolTests.*DaemonMayNot EndToEndTests.*Users
CAMPAIGN_steps := EndToEndTests.*StepKills
CAMPAIGN_train := EndToEndTests.*TrainingProgramTests/killed
CAMPAIGNS := kill kill-twice requests power-cut errno errno-two errno-model damage neighbour small-disk signals flood inotify drops hostile bombs clock daemons watch users steps train

.PHONY: $(CAMPAIGNS:%=campaign-%)
campaigns: $(CAMPAIGNS:%=campaign-%)

# The spool's own tests are built optimised, in a place of their own: what takes an hour takes minutes. The others run the
# programs of the release build, as people do.
SPOOL_TESTS := DREAMCACHE_TESTS=SpoolTests DREAMCACHE_CAMPAIGN=full swift
SPOOL_BUILD := --scratch-path .build-spool -c release -Xswiftc -enable-testing
$(CAMPAIGNS:%=campaign-%): campaign-%: build
	$(if $(filter SpoolTests%,$(CAMPAIGN_$*)),$(SPOOL_TESTS) build --build-tests $(SPOOL_BUILD))
	$(if $(filter SpoolTests%,$(CAMPAIGN_$*)),$(SPOOL_TESTS) test --skip-build $(SPOOL_BUILD) --no-parallel --filter '$(filter SpoolTests%,$(CAMPAIGN_$*))')
	$(if $(filter-out SpoolTests%,$(CAMPAIGN_$*)),DREAMCACHE_CAMPAIGN=full DREAMCACHE_PROGRAMS=$(abspath $(RELEASE)) swift test --no-parallel --filter '$(filter-out SpoolTests%,$(CAMPAIGN_$*))')

READER ?= manifest
FUZZ_SECONDS ?= 60
FUZZ_RUNS ?= -1
SEEDS_manifest := spool/examples
SEEDS_dcache := Tests/Fixtures/dcache
SEEDS_checkpoint := Tests/Fixtures/Checkpoint
SEEDS_image := Tests/Fixtures/Raster
SEEDS_heic := Tests/Fixtures/Photos
SEEDS_avif := Tests/Fixtures/Photos
SEEDS_webp := Tests/Fixtures/Photos
SEEDS_png := Tests/Fixtures/Raster
SEEDS_metadata := Tests/Fixtures/Raster
SEEDS_drop := Tests/Fixtures/Raster Tests/Fixtures/Photos
# The readers of pictures need little of the program, and have a build of their own.
FUZZ_PICTURES := image heic avif webp colour png metadata
fuzz: FUZZ_READERS := $(if $(filter $(READER),$(FUZZ_PICTURES)),pictures,all)
fuzz: setup
	DREAMCACHE_FUZZ=$(FUZZ_READERS) swift build -c release --scratch-path .build-fuzz/$(FUZZ_READERS) --product Fuzz --sanitize address \
		-Xswiftc -sanitize=fuzzer \
		-Xcc -fsanitize=fuzzer-no-link
	mkdir -p .build-fuzz/corpus/$(READER)
	FUZZ_READER=$(READER) .build-fuzz/$(FUZZ_READERS)/release/Fuzz -max_total_time=$(FUZZ_SECONDS) -runs=$(FUZZ_RUNS) -max_len=$(if $(filter pictures,$(FUZZ_READERS)),10000,65536) \
		-rss_limit_mb=4096 -timeout=60 -artifact_prefix=.build-fuzz/ \
		.build-fuzz/corpus/$(READER) Tests/FuzzCorpus/$(READER) $(SEEDS_$(READER))

# The tests over the C targets, and those of the spool's threads. Each sanitizer builds only what its tests need.
SANITIZE_address := BytesTests,CheckpointTests,RasterTests,TensorEngineTests
SANITIZE_thread := SpoolTests
# UndefinedBehaviorSanitizer is of use in C alone. Its runtime is part of AddressSanitizer's, so one build serves both.
SANITIZE_FLAGS_address := -Xcc -fsanitize=undefined -Xcc -fno-sanitize=vptr
SANITIZE_FILTER_address := .
SANITIZE_FILTER_thread := RunningDaemonTests|LifecycleTests|NeighbourTests|PoisonTests|FinishedSetTests|DamagedFileTests|MachineTroubleTests
# Tests ask for more memory than there is, and expect to be told.
sanitize-address: export ASAN_OPTIONS := allocator_may_return_null=1
sanitize-address: export UBSAN_OPTIONS := halt_on_error=1:print_stacktrace=1

.PHONY: sanitize-address sanitize-undefined sanitize-thread
sanitize: sanitize-address sanitize-undefined sanitize-thread

sanitize-undefined: sanitize-address

# No XCTest: it has no tests here, and leaks.
sanitize-address sanitize-thread: sanitize-%: setup
	DREAMCACHE_TESTS=$(SANITIZE_$*) swift build --build-tests --scratch-path .build-$* --sanitize $* $(SANITIZE_FLAGS_$*)
	DREAMCACHE_TESTS=$(SANITIZE_$*) swift test --skip-build --disable-xctest --scratch-path .build-$* --sanitize $* --filter '$(SANITIZE_FILTER_$*)'

# After `make build`, which needs no rights. Man pages and completions are made of what the programs say of themselves.
SHARE = $(DESTDIR)$(PREFIX)/share
MANUAL := Tools/manual/manual.py
install:
	install -Dm755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/dreamcached $(RELEASE)/dreamcache
	mkdir -p $(DESTDIR)$(PREFIX)/share/dreamcache
	install -m644 -t $(DESTDIR)$(PREFIX)/share/dreamcache $(RELEASE)/dreamcache_{Diffusion,Vision}.resources/Resources/*
	install -Dm644 etc/dreamcached.yaml $(DESTDIR)/etc/dreamcache/dreamcached.yaml
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/dreamcached.service
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/dreamcache systemd/dreamcached.service.d/memory.conf.example
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d etc/sysusers.d/dreamcache.conf
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d etc/tmpfiles.d/dreamcache.conf
	mkdir -p $(SHARE)/man/man1 $(SHARE)/man/man8
	$(RELEASE)/dreamcache --experimental-dump-help | $(MANUAL) 1 dreamcached.8 > $(SHARE)/man/man1/dreamcache.1
	$(RELEASE)/dreamcached --experimental-dump-help | $(MANUAL) 8 dreamcache.1 > $(SHARE)/man/man8/dreamcached.8
	mkdir -p $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions $(SHARE)/fish/vendor_completions.d
	for program in dreamcache dreamcached; do \
		$(RELEASE)/$$program --generate-completion-script bash > $(SHARE)/bash-completion/completions/$$program && \
		$(RELEASE)/$$program --generate-completion-script zsh > $(SHARE)/zsh/vendor-completions/_$$program && \
		$(RELEASE)/$$program --generate-completion-script fish > $(SHARE)/fish/vendor_completions.d/$$program.fish \
		|| exit 1; done

clean:
	rm -rf .build
