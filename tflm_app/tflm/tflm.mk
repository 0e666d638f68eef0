# RUNTIME=tflm: the app on TensorFlow Lite Micro, which the user brings along (docs/tflm.md):
#   TFLM_DIR=<headers: TFLM's source tree, or one made by its create_tflm_tree.py>
#   TFLM_LIB=<libtensorflow-microlite.a for the target>
#   GRAPH=portable | fused | <file.tflite>
#   ARENA_BYTES=<bytes>  an arena of another size than arena_size.h says
# The Makefile includes this once the model's variables are set.

# The arena is sized in the emulator, on a board with room for any: that of the same core, or of the
# next that has all its instructions. What the arena takes does not depend on the board.
arena_board_cortex-m0 := mps2-an385
arena_board_cortex-m0plus := mps2-an385
arena_board_cortex-m3 := mps2-an385
arena_board_cortex-m4 := mps2-an386
arena_board_cortex-m7 := mps2-an500
arena_board_cortex-m23 := mps2-an505
arena_board_cortex-m33 := mps2-an505
arena_board_cortex-m55 := mps3-an547
TFLM_CORE := $(firstword $(subst +, ,$(patsubst -mcpu=%,%,$(filter -mcpu=%,$(CPU)))))
ARENA_BOARD := $(arena_board_$(TFLM_CORE))

ifeq ($(BARE),)
  $(error RUNTIME=tflm is for boards, TARGET=$(TARGET) is none: there are $(filter-out host,$(TARGETS)))
endif
ifeq ($(ARENA_BOARD),)
  $(error RUNTIME=tflm: no board here is like -mcpu=$(TFLM_CORE), to find out how large an arena it takes)
endif
ifneq ($(value IMAGE),)
  $(error RUNTIME=tflm takes MODEL=<folder>, not IMAGE)
endif
# Of decimal digits, which C does not take for octal ones, and below 2^30.
ifneq ($(value ARENA_BYTES),)
  ifneq ($(shell case $(call quote,$(value ARENA_BYTES)) in \
      (*[!0-9]*|0?*|??????????*) ;; (*) echo ok;; esac),ok)
    $(error ARENA_BYTES=$(value ARENA_BYTES): not a number of bytes, such as 16384)
  endif
endif
ifeq ($(and $(TFLM_DIR),$(TFLM_LIB)),)
  $(error RUNTIME=tflm needs TFLM_DIR=<headers> and TFLM_LIB=<libtensorflow-microlite.a>: docs/tflm.md)
endif
TFLM_ROOT := $(call find_path,$(TFLM_DIR))
TFLM_ARCHIVE := $(call find_path,$(TFLM_LIB))
ifneq ($(words $(TFLM_ROOT) $(TFLM_ARCHIVE)),2)
  $(error TFLM_DIR=$(TFLM_DIR), TFLM_LIB=$(TFLM_LIB): make cannot work with blanks in these two \
    paths; give links to them that have none)
endif
ifeq ($(wildcard $(TFLM_ROOT)/tensorflow/lite/micro/micro_interpreter.h),)
  $(error TFLM_DIR=$(TFLM_DIR): there is no tensorflow/lite/micro/micro_interpreter.h in it)
endif
ifeq ($(wildcard $(TFLM_ARCHIVE)),)
  $(error TFLM_LIB=$(TFLM_LIB): no such file)
endif
ifeq ($(shell arm-none-eabi-g++ -x c++ -fsyntax-only -include new /dev/null 2>/dev/null && echo ok),)
  $(error TFLM is C++, and arm-none-eabi-g++ does not find its library; as root: \
    apt-get install libstdc++-arm-none-eabi-newlib)
endif

GRAPH ?= portable
ifneq ($(filter portable fused,$(GRAPH)),)
  GRAPH_ID := $(GRAPH)
  TFLM_GRAPH := $(GRAPH)
else
  TFLM_GRAPH := $(call find_path,$(value GRAPH))
  ifeq ($(shell test -f $(call quote,$(TFLM_GRAPH)) && echo found),)
    $(error GRAPH=$(GRAPH): portable, fused or the path of a .tflite)
  endif
  GRAPH_ID := $(basename $(call letters,$(TFLM_GRAPH)))
  ORIGIN_FILES += $(call quote,$(TFLM_GRAPH))
endif

# MicroInterpreter::AllocateTensors, which every build of the library has.
TFLM_ALLOCATE := _ZN6tflite16MicroInterpreter15AllocateTensorsEv
# What the library was built as: calling convention, kernels, with or without its messages.
TFLM_SYMBOLS := $(shell arm-none-eabi-nm -g $(TFLM_ARCHIVE) 2>/dev/null | \
  grep -o ' T \(arm_fully_connected_s8\|_Z11MicroPrintfPKcz\|$(TFLM_ALLOCATE)\)$$' | sort -u)
ifeq ($(filter $(TFLM_ALLOCATE),$(TFLM_SYMBOLS)),)
  $(error TFLM_LIB=$(TFLM_LIB): no libtensorflow-microlite.a for Arm: there is no MicroInterpreter in it)
endif
TFLM_KERNELS := $(if $(filter arm_fully_connected_s8,$(TFLM_SYMBOLS)),CMSIS-NN,reference)
TFLM_FLOAT_ABI := $(if $(shell arm-none-eabi-readelf -A $(TFLM_ARCHIVE) 2>/dev/null | \
  grep -m 1 Tag_ABI_VFP_args),hard,soft)
CPU := $(patsubst -mfloat-abi=%,-mfloat-abi=$(TFLM_FLOAT_ABI),$(CPU)) \
  $(if $(filter hard,$(TFLM_FLOAT_ABI)),-mfpu=auto)
TFLM_INCLUDES := $(addprefix -isystem ,$(TFLM_ROOT) $(wildcard $(foreach at,third_party \
  tensorflow/lite/micro/tools/make/downloads,$(TFLM_ROOT)/$(at)/flatbuffers/include \
  $(TFLM_ROOT)/$(at)/gemmlowp $(TFLM_ROOT)/$(at)/ruy)))
TFLM_DEFINES := -DTF_LITE_STATIC_MEMORY -DTF_LITE_MCU_DEBUG_LOG \
  $(if $(filter CMSIS-NN,$(TFLM_KERNELS)),-DCMSIS_NN) \
  $(if $(filter _Z11MicroPrintfPKcz,$(TFLM_SYMBOLS)),,-DTF_LITE_STRIP_ERROR_STRINGS -DNDEBUG)

# One folder a library, so that changing it compiles and sizes anew.
TFLM_ID := $(firstword $(shell printf '%s' '$(TFLM_ARCHIVE)' | cksum))
COMMON := $(BUILD_FOLDER)/$(VARIANT)-tflm-$(TFLM_ID)
GENERATED := $(BUILD_FOLDER)/models/$(MODEL_ID)-tflm-$(GRAPH_ID)
OUT := $(COMMON)/$(MODEL_ID)-$(GRAPH_ID)
PROGRAM := $(OUT)/embbert.elf
TRIAL := $(OUT)/trial/trial.elf

GENERATE := converters.generate_tflm $(ORIGIN_FLAG) --graph=$(call quote,$(TFLM_GRAPH))
DEFINES += -DEMBBERT_OTHER_BACKEND
$(COMMON)/app/%.o $(OUT)/app/%.o: private DEFINES += -Dembbert_implementation=embbert_tflm_implementation

LINKER := arm-none-eabi-g++
TFLM_NAME := TFLM $(TFLM_KERNELS), $(GRAPH_ID)$(if $(filter fused,$(GRAPH)), $(IMPLEMENTATION))
# newlib and g++ must not bring exceptions and the like along.
TFLM_CXX = $(LINKER) -std=c++17 -Wall -Wextra -Werror -Os $(CFLAGS) $(CPU) -ffunction-sections \
  -fdata-sections -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit \
  -fstack-usage -fcallgraph-info=su -MMD -MP -ffile-prefix-map=$(call quote,$(CURDIR))=tflm_app $(TFLM_DEFINES) $(TFLM_INCLUDES) \
  $(EMBBERT_INCLUDES) \
  -DEMBBERT_TFLM_ONE_MODEL -Iembbert/src -DEMBBERT_TFLM_NAME='"$(TFLM_NAME)"' -I$(GENERATED) -Itflm
# The linker leaves out what a graph does not use.
TFLM_OPS := $(if $(filter fused,$(GRAPH)),$(OUT)/tflm/embbert_ops.o,\
  $(OUT)/tflm/embbert_scan_op.o $(COMMON)/tflm/embbert_scan.o)
RUNTIME_OBJECTS := $(OUT)/tflm/embbert_tflm.o $(TFLM_OPS) $(COMMON)/tflm/libc_stubs.o
RUNTIME_LIBRARIES := $(TFLM_ARCHIVE)
$(PROGRAM) $(TRIAL): $(TFLM_ARCHIVE)

# Generating anew writes only what changes, and only that is compiled anew.
$(addprefix $(GENERATED)/,model_resolver.h graph.tflite): $(GENERATED)/stamp ;
OF_TFLM_MODEL := $(addprefix $(GENERATED)/,model_resolver.h model_shape.h)

MODEL_SIZES := $(OUT)/model_sizes.h

$(OUT)/flags_tflm: FORCE
	@mkdir -p $(@D)
	@echo $(call quote,$(TFLM_CXX)) | cmp -s - $@ || echo $(call quote,$(TFLM_CXX)) >$@

$(OUT)/tflm/embbert_tflm.o: tflm/embbert_tflm.cc $(OF_TFLM_MODEL) $(OUT)/arena_size.h $(OUT)/flags_tflm
	@mkdir -p $(@D)
	$(TFLM_CXX) -I$(OUT) -c $< -o $@

$(OUT)/tflm/embbert_ops.o $(OUT)/tflm/embbert_scan_op.o: $(OUT)/tflm/%.o: tflm/%.cc $(OUT)/flags_tflm
	@mkdir -p $(@D)
	$(TFLM_CXX) -c $< -o $@

$(COMMON)/tflm/embbert_scan.o: tflm/embbert_scan.c $(COMMON)/flags
	@mkdir -p $(@D)
	$(compile) $(EMBBERT_KERNELS_CFLAGS) -Iembbert/src -c $< -o $@

# Bytes of the app's static memory: what comes before the arena, and the arena.
$(OUT)/model_sizes.h: $(OUT)/arena_size.h FORCE
	@{ echo '// Made by tflm_app/tflm/tflm.mk; do not edit.'; \
	  echo '#include "arena_size.h"'; \
	  echo $(call quote,#include "$(CURDIR)/tflm/embbert_tflm.h"); \
	  echo '#define MEMORY_BYTES (EMBBERT_TFLM_OVERHEAD(MODEL_OPERATORS, MODEL_BLOCKS, \'; \
	  echo '    MODEL_LABELS, MODEL_MAX_LENGTH) + ($(or $(ARENA_BYTES),MODEL_ARENA_BYTES)))'; \
	} >$@.tmp; cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

# A board with too little RAM for what the linker is asked for: what could be done.
explain_arena = echo "tflm_app: the arena takes $(or $(ARENA_BYTES),$$(sed -n \
  's/.*MODEL_ARENA_BYTES \([0-9]*\)u/\1/p' $(OUT)/arena_size.h)) bytes; GRAPH=fused takes the least, \
  a smaller --max_length at conversion less, and a smaller TEXT_BYTES leaves more" | tr -s ' ' >&2

# ---- How large an arena? ----------------------------------------------------------------------

ifeq ($(BOARD_DIR),boards/$(ARENA_BOARD))

ARENA_OUT := $(OUT)

$(OUT)/trial/arena_size.h:
	@mkdir -p $(@D)
	@echo '#define MODEL_ARENA_BYTES 0u  // let TFLM see every size' >$@

$(OUT)/trial/embbert_tflm.o: tflm/embbert_tflm.cc $(OUT)/trial/arena_size.h $(OF_TFLM_MODEL) \
    $(OUT)/flags_tflm
	$(TFLM_CXX) -I$(OUT)/trial -c $< -o $@

$(OUT)/trial/arena_trial.o: tflm/arena_trial.c $(OF_TFLM_MODEL) $(COMMON)/flags
	@mkdir -p $(@D)
	$(compile) -Os -I$(GENERATED) -c $< -o $@

TRIAL_OBJECTS := $(patsubst %.c,$(COMMON)/%.o,$(EMBBERT_SOURCES) app/print.c $(BOARD) app/bare_main.c) \
  $(OUT)/trial/embbert_tflm.o $(OUT)/trial/arena_trial.o $(OUT)/model_image.o $(TFLM_OPS) \
  $(COMMON)/tflm/libc_stubs.o

$(TRIAL): $(TRIAL_OBJECTS)
	$(LINKER) $(CPU) $(CFLAGS) $(LINK_FLAGS) -Wl,--gc-sections -Wl,-Map,$@.map -o $@ $(TRIAL_OBJECTS) \
	  $(RUNTIME_LIBRARIES)

$(OUT)/arena_size.h: $(TRIAL) ../converters/firmware/size_arena.py
	@$(python_module) converters.generate_tflm --trial_program=tflm_app/$(TRIAL) \
	  --machine=$(MACHINE) --output_folder=tflm_app/$(@D)

else

ARENA_OUT := $(BUILD_FOLDER)/$(ARENA_BOARD)-$(IMPLEMENTATION)-tflm-$(TFLM_ID)/$(MODEL_ID)-$(GRAPH_ID)

# With the settings of that board, and paths that mean the same from every folder.
$(OUT)/arena_size.h: $(OF_TFLM_MODEL) FORCE
	@mkdir -p $(@D)
	@$(MAKE) --no-print-directory TARGET=$(ARENA_BOARD) BOARD_DIR= MODEL=$(call quote,$(ORIGIN)) \
	  GRAPH=$(call quote,$(TFLM_GRAPH)) TFLM_DIR=$(TFLM_ROOT) TFLM_LIB=$(TFLM_ARCHIVE) \
	  IMPLEMENTATION=$(IMPLEMENTATION) TEXT_BYTES=65536 MAX_TOKENS= ARENA_BYTES= PROFILE= arena >$@.log
	@cmp -s $(ARENA_OUT)/arena_size.h $@ || cp $(ARENA_OUT)/arena_size.h $@

endif

# For converters/benchmarks/tflm.py: kernels, then where map, image, arena_size.h and the program
# that found the arena lie, and the machine that this one runs on.
.PHONY: arena tflm_paths
tflm_paths: $(PROGRAM)
	@echo '{"kernels": "$(TFLM_KERNELS)", "out": "$(CURDIR)/$(OUT)", "generated": "$(CURDIR)/$(GENERATED)",' \
	  '"trial": "$(CURDIR)/$(ARENA_OUT)/trial/trial.elf", "machine": "$(ARENA_BOARD)"}'

arena: $(OUT)/arena_size.h
	@cat $<

# ---- The operators without the application ----------------------------------------------------

# Builds tests/tflm_operators_test.cc for GRAPH=fused, and prints where it is.
OPERATORS_TEST := $(OUT)/tests/operators_test.elf

$(OUT)/tests/tflm_operators_test.o: tests/tflm_operators_test.cc $(GENERATED)/graph.tflite $(OF_TFLM_MODEL) \
    $(OUT)/flags_tflm
	@mkdir -p $(@D)
	$(TFLM_CXX) -Wa,-I$(GENERATED) -c $< -o $@

OPERATORS_TEST_OBJECTS := $(OUT)/tests/tflm_operators_test.o $(TFLM_OPS) $(COMMON)/tflm/libc_stubs.o \
  $(patsubst %.c,$(COMMON)/%.o,$(EMBBERT_KERNELS) $(BOARD) app/bare_main.c)

$(OPERATORS_TEST): $(OPERATORS_TEST_OBJECTS) $(TFLM_ARCHIVE)
	$(LINKER) $(CPU) $(CFLAGS) $(LINK_FLAGS) -Wl,--gc-sections -o $@ $(OPERATORS_TEST_OBJECTS) \
	  $(RUNTIME_LIBRARIES)

.PHONY: operators_test
operators_test: $(OPERATORS_TEST)
	@echo $(call quote,$(CURDIR)/$(OPERATORS_TEST))
