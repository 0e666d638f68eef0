// TensorFlow Lite Micro as the engine's backend in place of the kernels (embbert_backend.h of the
// library says how): of firmware that is built with RUNTIME=tflm, and of an export for it.
//
// What embbert.h says holds, but for this: `memory` lies at a multiple of 16, and kEmbbertRuntime
// says that TFLM refuses. max_tokens cuts texts off and saves no memory, as the graph keeps its
// length. progress is asked once, before the graph runs, which cannot be interrupted.
//
// TFLM does not survive every arena that is too small, so that its size is compared before TFLM
// sees it: in the firmware with arena_size.h; in an export by <name>_open, with
// <NAME>_MEMORY_BYTES. There, embbert_engine_open alone knows of the bytes before the arena only.
#ifndef EMBBERT_TFLM_APP_TFLM_EMBBERT_TFLM_H_
#define EMBBERT_TFLM_APP_TFLM_EMBBERT_TFLM_H_

#include <stddef.h>
#include <stdint.h>

#include "embbert.h"

#ifdef __cplusplus
extern "C" {
#endif

// What kEmbbertSectionTflmShape says of the model: converters/generate_tflm.py writes it.
typedef struct {
  int32_t vocab_size;
  int32_t max_length;
  int32_t reduced;
  int32_t hidden;
  int32_t expansion;
  int32_t taps;
} tflm_shape_t;

// Bytes of the engine's memory before the arena: interpreter and operator table, ids, segments,
// logits, the tokenizer's scratch. A multiple of 16.
#define EMBBERT_TFLM_ROUND16(bytes) (((bytes) + 15u) / 16u * 16u)
#define EMBBERT_TFLM_STATE_BYTES(operators) EMBBERT_TFLM_ROUND16(512u + 48u * (operators))
#define EMBBERT_TFLM_OVERHEAD(operators, blocks, labels, max_length)            \
  (EMBBERT_TFLM_STATE_BYTES(operators) +                                        \
   EMBBERT_TFLM_ROUND16((blocks) * sizeof(embbert_block_t)) +                   \
   EMBBERT_TFLM_ROUND16(2u * (max_length)) + EMBBERT_TFLM_ROUND16(max_length) + \
   EMBBERT_TFLM_ROUND16(labels) + EMBBERT_TFLM_ROUND16(sizeof(embbert_tokenizer_scratch_t)))

// Called instead of TFLM's endless loop when one of its own checks has failed, with what it said;
// must not return. A program may define it; the one here, which is weak, calls abort().
void embbert_tflm_halted(const char* what);

// arena_used_bytes() of an open engine.
size_t embbert_tflm_arena_used(const embbert_engine_t* engine);

// Which graph and kernels: shown where the firmware without TFLM shows embbert_implementation.
extern const char embbert_tflm_implementation[];

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_TFLM_APP_TFLM_EMBBERT_TFLM_H_
