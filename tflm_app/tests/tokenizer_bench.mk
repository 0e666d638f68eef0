# make tokenizer_bench: the tokenizer alone on a Cortex-M4: instructions a byte under QEMU, code and
# stack. TOKENIZER=<tokenizer.json>, FILE=<lines of text>. The Makefile includes this.

TOKENIZER ?= zoo/backbone/tokenizer.json
TOKENIZER_PATH = $(call find_path,$(value TOKENIZER))
BENCH = build/tokenizer/$(call path_id,$(TOKENIZER_PATH))
TABLES = $(BENCH)/tokenizer_tables.bin
BENCH_FLAGS := -std=c11 $(WARNINGS) -mcpu=cortex-m4 -mthumb -mfloat-abi=soft -O2 -fstack-usage \
  $(EMBBERT_INCLUDES)
BENCH_BOARD := $(wildcard boards/common/*.c) $(addprefix boards/drivers/,uart_cmsdk.c counter_fpgaio.c)

$(BENCH)/origin: FORCE
	@mkdir -p $(@D)
	@cksum $(call quote,$(TOKENIZER_PATH)) >$@.tmp 2>&1; cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

$(TABLES): $(BENCH)/origin $(GENERATOR_SOURCES)
	@$(python_module) converters.generate_firmware --tokenizer=$(call quote,$(TOKENIZER_PATH)) \
	  --output_folder=tflm_app/$(@D)
	@touch $@

$(BENCH)/embbert_tokenizer.o: $(EMBBERT_TOKENIZER) embbert/include/embbert_tokenizer.h
	@mkdir -p $(@D)
	arm-none-eabi-gcc $(BENCH_FLAGS) -c $< -o $@

$(BENCH)/bench.elf: tests/tokenizer_bench.c $(BENCH)/embbert_tokenizer.o $(TABLES)
	arm-none-eabi-gcc $(BENCH_FLAGS) -DTABLES_FILE='"$(TABLES)"' -Iboards/mps2-an386 -Iboards/common -nostartfiles \
	  --specs=nano.specs -Wl,-T,boards/mps2-an386/memory.ld -Wl,-T,boards/common/sections.ld -o $@ \
	  $< $(BENCH)/embbert_tokenizer.o $(BENCH_BOARD)

.PHONY: tokenizer_bench
tokenizer_bench: $(BENCH)/bench.elf
	@arm-none-eabi-size $(BENCH)/embbert_tokenizer.o
	@FILE="$${FILE:-tests/tokenizer_bench_texts.txt}"; $(call find_file,FILE); \
	boards/emulate.sh mps2-an386 $(TIMEOUT) $(BENCH)/bench.elf bench "$$path"
	@echo 'stack frames:'; cut -f 1,2 $(BENCH)/embbert_tokenizer.su
