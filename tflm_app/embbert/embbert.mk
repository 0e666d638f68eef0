# The library, for the makefile of any program. Nothing else of tflm_app/ is needed:
#
#   EMBBERT_DIR := third_party/embbert      this folder; no blanks in it
#   include $(EMBBERT_DIR)/embbert.mk
#   ... compile $(EMBBERT_SOURCES) with -std=c11 -O2 $(EMBBERT_INCLUDES)
#
# Parts by themselves: EMBBERT_KERNELS, EMBBERT_TOKENIZER, EMBBERT_ENGINE. Of the kernels' three
# implementations the one that the compiler's target selects compiles to something. A program that
# has to be small compiles all but the kernels with -Os; whatever the program never calls is left
# out by -ffunction-sections, -fdata-sections and -Wl,--gc-sections.
ifndef EMBBERT_DIR
  EMBBERT_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
endif

EMBBERT_INCLUDES := -I$(EMBBERT_DIR)/include
EMBBERT_KERNELS := $(addprefix $(EMBBERT_DIR)/src/kernels/, \
  embbert_common.c embbert_tables.c embbert_portable.c embbert_dsp.c embbert_mve.c)
EMBBERT_TOKENIZER := $(EMBBERT_DIR)/src/embbert_tokenizer.c
EMBBERT_ENGINE := $(addprefix $(EMBBERT_DIR)/src/, embbert.c embbert_image.c embbert_labels.c)
EMBBERT_SOURCES := $(EMBBERT_KERNELS) $(EMBBERT_TOKENIZER) $(EMBBERT_ENGINE)

# Speed first in the kernels; -fno-math-errno and the like do not matter: no floating point.
EMBBERT_KERNELS_CFLAGS := -O2
