// Compiled to assembly only, never linked: how much scratch the kernels need for the model at hand,
// asked of the kernels' own function with the target's compiler, which folds it to a constant.
// The Makefile makes model_sizes.h from the largest number on the marked lines.

#include "model_shape.h"

// Of the implementations the one that the target selects compiles to something.
#include "../embbert/src/kernels/embbert_common.c"
#include "../embbert/src/kernels/embbert_dsp.c"
#include "../embbert/src/kernels/embbert_mve.c"
#include "../embbert/src/kernels/embbert_portable.c"

#define SIZE(expansion_, taps_)                                                    \
  {                                                                                \
    const embbert_block_t block = {                                                \
        .hidden = MODEL_HIDDEN, .expansion = (expansion_), .taps = (taps_)};       \
    __asm__ volatile("@SCRATCH %c0"                                                \
                     :                                                             \
                     : "i"(embbert_block_scratch_size(&block, MODEL_MAX_LENGTH))); \
  }

void sizes(void) { MODEL_BLOCK_SHAPES(SIZE) }
