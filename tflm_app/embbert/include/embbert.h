// EmbBERT as a library: text in, label and confidence out. Five functions.
//
//   static embbert_engine_t engine;
//   static _Alignas(8) uint8_t memory[MEMORY_BYTES];  // `make ... info` prints it: model memory
//   if (embbert_engine_open(&engine, model_image, model_image_size, memory, sizeof(memory)) != 0)
//   ... embbert_result_t result; if (embbert_engine_classify(&engine, "lights off", 10, NULL, 0,
//   &result) == 0) use(result.name);
//
// Memory. The caller owns all of it: the engine, `memory`, and the image, which is only read and
// may stay in flash. All three must outlive the last call. Nothing is allocated, there are no
// globals.
//
// Tasks and interrupts. An engine serves one call at a time; put a mutex around it when several
// tasks share one. Different engines, each with a `memory` of its own, may run at once, over the
// same image too. Calls may be preempted at any point and need no interrupt disabled. Do not call
// from an interrupt handler: a call takes milliseconds. embbert_engine_message may be called from
// anywhere.
//
// Time. Opening reads the image once for its checksum, some 12 instructions a byte. Tokenizing is
// linear in the text, below 400 instructions a byte. Inference depends on the number of tokens
// alone: `make bench` prints it. No call waits for anything.
//
// Stack. `make size` prints the deepest use, measured and computed.

#ifndef EMBBERT_H_
#define EMBBERT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embbert_kernels.h"
#include "embbert_model_image.h"
#include "embbert_tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

// Status of every function; 0 is success. embbert_engine_message puts it into words.
enum {
  kEngineOk = 0,
  kEngineImage = 1,             // + image_status_t - 1: 1..15
  kEngineSection = 16,          // a section is missing or of the wrong size
  kEngineOptions = 17,          // kernel options that no kernel of this build accepts
  kEngineShapes = 18,           // parts that do not fit one another
  kEngineMemory = 19,           // `memory` is too small or not at a multiple of 8
  kEngineTokenizerTables = 20,  // the tokenizer's tables are not valid
  kEngineTokens = 21,           // infer: no token, too many, or an id outside the vocabulary
  kEngineArgument = 22,         // a pointer is NULL, or a pair for a model without pairs
  kEngineRuntime = 23,          // another backend than the kernels refused, with its own message
};

// Read `model`, `config`, `image` and `memory_needed` as you like; the rest is private.
typedef struct {
  embbert_model_t model;
  model_config_t config;
  model_image_t image;
  size_t memory_needed;  // bytes; set even when open fails with kEngineMemory
  embbert_tokenizer_t tokenizer;
  const uint32_t* confidence;
  const char* labels;
  uint16_t* ids;
  uint8_t* segments;
  int8_t* logits;
  int8_t* buffer_a;
  int8_t* buffer_b;
  void* scratch;
  size_t scratch_size;
} embbert_engine_t;

typedef struct {
  int32_t label;         // index of the largest logit, the first of equals; 0 for a regression
  const char* name;      // its name, in the image
  uint32_t confidence;   // softmax of the dequantized logits at `label`, in 1/10000
  bool sure;             // confidence is at least the model's threshold
  int32_t score;         // regression: the predicted value in 1/1000
  int32_t tokens;        // how many the text became
  const int8_t* logits;  // (labels), valid until the engine's next call
} embbert_result_t;

// Bytes of `memory` for a model, from the parts that model_sizes.h lists.
#define EMBBERT_ENGINE_ROUND8(bytes) (((bytes) + 7u) / 8u * 8u)
#define EMBBERT_ENGINE_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define EMBBERT_ENGINE_MEMORY_BYTES(blocks, labels, max_length, buffer_bytes, scratch_bytes) \
  (EMBBERT_ENGINE_ROUND8((blocks) * sizeof(embbert_block_t)) +                               \
   EMBBERT_ENGINE_ROUND8(2u * (max_length)) + EMBBERT_ENGINE_ROUND8(max_length) +            \
   EMBBERT_ENGINE_ROUND8(labels) +                                                           \
   EMBBERT_ENGINE_LARGER(                                                                    \
       EMBBERT_ENGINE_ROUND8(sizeof(embbert_tokenizer_scratch_t)),                           \
       2u * EMBBERT_ENGINE_ROUND8(buffer_bytes) + EMBBERT_ENGINE_ROUND8(scratch_bytes)))

// Checks the image at `image` (at a multiple of 16, at most `image_capacity` bytes) to the last bit
// and prepares `engine`. `memory`: `memory_size` bytes at a multiple of 8.
int embbert_engine_open(embbert_engine_t* engine, const void* image, size_t image_capacity,
                        void* memory, size_t memory_size);

// Tokenizes UTF-8 text, `pair` NULL or the second text. *ids, in the engine's memory, holds *count
// ids until the engine's next call: at most max_length, text beyond that is cut off.
int embbert_engine_tokenize(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, const uint16_t** ids,
                            size_t* count);

// Classifies 1..max_length ids, the first of which should be [CLS].
int embbert_engine_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count,
                         embbert_result_t* result);

// Tokenizes and classifies.
int embbert_engine_classify(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, embbert_result_t* result);

// One line of English for a status; never NULL.
const char* embbert_engine_message(int status);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_H_
