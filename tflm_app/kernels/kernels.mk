# Sources and flags of the kernels, for the makefiles that build them. KERNELS_DIR is this directory.
KERNELS_SOURCES := \
  embbert_common.c \
  embbert_tables.c \
  embbert_portable.c \
  embbert_dsp.c \
  embbert_mve.c
# Speed first here, size elsewhere; -fno-math-errno and the like do not matter: no floating point.
KERNELS_CFLAGS := -std=c11 -O2 -Wall -Wextra -Wconversion -Werror
