# A thin front over meson.build. `make help` lists the targets.
BUILD ?= build
MODEL ?= examples/models/fable-14m
PREFIX ?= /usr/local

all: library

help:
	@echo "make            build the library and the example programs in $(BUILD)/"
	@echo "make demo       pack the bundled model and tell a story within half of its size"
	@echo "make check      install what is missing, build with warnings as errors, run all tests"
	@echo "make check-golden   all golden windows of all models (long)"
	@echo "make check-platforms   cross builds: Android's files run under qemu, macOS's compiled (installs 0.5 GB)"
	@echo "make bench      short benchmarks and the ablation on a small synthetic model (0.9 GB in $(BUILD)/)"
	@echo "make ablation   the paper's tables at OPT-6.7B's shape, budgets in control groups (14 GB in $(BUILD)/, long)"
	@echo "make peer       beside llama.cpp within memory limits, 2 GB in $(BUILD)/, as root; PEER='--shape opt-6.7b': 32 GB, hours"
	@echo "make abi-baseline   accept what has been added to the binary interface (docs/abi.md)"
	@echo "make install    install library, headers, programs, man pages (PREFIX=$(PREFIX), DESTDIR); undo: make uninstall"
	@echo "make clean      remove $(BUILD)/ and the other build folders"

setup:
	@.ci/setup build

$(BUILD)/build.ninja: | setup
	@meson setup $(BUILD) --prefix $(abspath $(PREFIX)) >/dev/null

library: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/fable-14m.gguf: library
	@test -e $@ && test $@ -nt $(BUILD)/examples/pack || $(BUILD)/examples/pack $(MODEL) $@

demo: $(BUILD)/fable-14m.gguf
	@$(BUILD)/examples/generate $(BUILD)/fable-14m.gguf --budget 50% --tokens 120 \
	    --prompt "Once upon a time there was a little girl who" --temperature 0.8 --top-k 40 --seed 7
	@echo; echo "The model file is $(BUILD)/fable-14m.gguf; README.md says what to try on it."

check:
	@.ci/check

check-golden:
	@.ci/setup check
	@test -e build-golden/build.ninja || meson setup build-golden -Dtests=true -Db_ndebug=false >/dev/null
	@meson test -C build-golden --benchmark --suite golden --verbose

check-platforms:
	@.ci/setup build && .ci/setup platforms
	@test -e build-platforms/meson/build.ninja || meson setup build-platforms/meson -Dtests=true >/dev/null
	@meson test -C build-platforms/meson --benchmark --suite platforms --verbose

bench: library
	@meson test -C $(BUILD) --benchmark --suite bench --verbose
	@test -e $(BUILD)/bench.gguf || $(BUILD)/tests/bench/synth --layers 8 --d 2048 --heads 32 --ffn 8192 --vocab 8192 \
	    $(BUILD)/bench.gguf
	@$(BUILD)/tests/bench/ablation --model $(BUILD)/bench.gguf

ablation:
	@.ci/setup build && .ci/setup bench
	@test ! -e $(BUILD)/build.ninja || meson setup --reconfigure $(BUILD) >/dev/null # finds liburing
	@$(MAKE) --no-print-directory $(BUILD)/opt-6.7b.gguf
	@$(BUILD)/tests/bench/ablation --model $(BUILD)/opt-6.7b.gguf --tokens 48 --skip 96 --plot $(BUILD)/ablation-opt-6.7b.svg
	@python3 tests/bench/fio.py $(BUILD)/tests/bench/reads $(BUILD)/opt-6.7b.gguf
	@python3 tests/bench/budgets.py $(BUILD)/tests/bench/ablation $(BUILD)/opt-6.7b.gguf

peer: library
	@.ci/setup peer
	@python3 tests/bench/peer.py --build $(BUILD) --folder $(BUILD)/peer $(PEER)

$(BUILD)/opt-6.7b.gguf: | library
	@$(BUILD)/tests/bench/synth --shape opt-6.7b $@

abi-baseline:
	@.ci/setup check
	@tests/abi/abi.py update .

install: library
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX)) && ninja -C $(BUILD) --quiet
	@meson install -C $(BUILD) --no-rebuild

uninstall:
	@ninja -C $(BUILD) uninstall

clean:
	rm -rf build build-*

.PHONY: all help setup library demo check check-golden check-platforms bench ablation peer abi-baseline install uninstall clean
