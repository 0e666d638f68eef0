# make fuzz: libFuzzer, FUZZ_SECONDS=5 each, or FUZZ_RUNS=<executions> each where that is less.
# TOKENIZER=<tokenizer.json>: whose tables the tokenizer's fuzzer reads and damages.
# The Makefile includes this.

FUZZ_SECONDS ?= 5
FUZZERS := line_reader csv_reader model_image tokenizer
FUZZ_CFLAGS := -std=c11 $(WARNINGS) -g -O2 -fsanitize=fuzzer,address,undefined \
  -fno-sanitize-recover=all -DEMBBERT_FORCE_PORTABLE $(EMBBERT_INCLUDES)

# What a fuzzer is linked with. The tokenizer's includes the tokenizer, to see its internals.
FUZZED_line_reader := app/line_reader.c
FUZZED_csv_reader := app/csv_reader.c
FUZZED_model_image := $(EMBBERT_SOURCES)
FUZZED_tokenizer :=
FUZZ_OPTIONS_tokenizer := -max_len=512 -timeout=10

build/fuzz/%: fuzz/%_fuzz.c $(wildcard app/*.[ch] embbert/include/*.h embbert/src/*.[ch] \
    embbert/src/kernels/*.[ch]) fuzz/fuzz.mk
	@mkdir -p $(@D)
	clang $(FUZZ_CFLAGS) -o $@ $< $(FUZZED_$*)

# What a run finds worth keeping goes to build/; a crash prints its input and fails.
.PHONY: fuzz
fuzz: $(addprefix build/fuzz/,$(FUZZERS)) $(TABLES)
	@$(foreach f,$(FUZZERS),mkdir -p build/fuzz/found/$f build/fuzz/seeds/$f; \
	  EMBBERT_TABLES=$(TABLES) build/fuzz/$f -max_total_time=$(FUZZ_SECONDS) -timeout=5 \
	    $(FUZZ_OPTIONS_$f) -print_final_stats=1 -artifact_prefix=build/fuzz/ \
	    $(if $(FUZZ_RUNS),-runs=$(FUZZ_RUNS)) \
	    build/fuzz/found/$f fuzz/corpus/$f build/fuzz/seeds/$f 2>build/fuzz/$f.log || \
	    { tail -n 40 build/fuzz/$f.log; exit 1; }; \
	  echo "$f: $$(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/$f.log) executions";)
