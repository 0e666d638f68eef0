// What a program puts in the place of the kernels when it computes with something else: it compiles
// embbert.c with EMBBERT_OTHER_BACKEND and defines these four. Not for applications.
#ifndef EMBBERT_BACKEND_H_
#define EMBBERT_BACKEND_H_

#include <stddef.h>
#include <stdint.h>

#include "embbert.h"

#ifdef __cplusplus
extern "C" {
#endif

// Fills the engine's shape (model.embed, model.head) from its image, which is checked and open.
int embbert_backend_shape(embbert_engine_t* engine);

// Sets memory_needed and lays out ids, segments, logits, model.blocks and work (the tokenizer's
// scratch) in `memory`; kEmbbertMemory when that is too small.
int embbert_backend_open(embbert_engine_t* engine, void* memory, size_t memory_size);

// ids (count); engine->segments (count) are set. Leaves the logits in engine->logits.
int embbert_backend_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count);

// Puts the engine's last kEmbbertMemory or kEmbbertRuntime into words.
const char* embbert_backend_message(int status);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_BACKEND_H_
