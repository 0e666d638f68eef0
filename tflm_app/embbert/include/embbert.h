// EmbBERT as a library: text in, label and confidence out. This one header is all that a program
// includes; embbert_tokenizer.h and embbert_kernels.h are the engine's parts, usable by themselves.
//
// Example:
//
//   #include <string.h>
//
//   #include "embbert.h"
//
//   // From the generated model_image.c.
//   extern const uint32_t model_image_size;
//   extern const uint32_t model_image_data[];
//
//   static uint64_t memory[9600];  // 75 kB; open says how much the model needs
//   static embbert_engine_t engine;
//
//   // The label of a text, or what is wrong.
//   const char* label_of(const char* text) {
//     embbert_result_t result;
//     int status = kEmbbertOk;
//     if (!embbert_engine_is_open(&engine)) {
//       status = embbert_engine_open(&engine, model_image_data, model_image_size, memory,
//                                    sizeof(memory), NULL);
//     }
//     if (status == kEmbbertOk) {
//       status = embbert_engine_classify(&engine, text, strlen(text), NULL, 0, &result);
//     }
//     return status == kEmbbertOk ? result.name : embbert_engine_message(status);
//   }
//
// Memory. The caller owns all of it: the engine, `memory`, and the image, which is only read and
// may stay in flash. All three must outlive the last call. Nothing is allocated, and there are no
// global variables: any number of engines, of one model or of several, live in one program. How
// many bytes `memory` has to have is engine.memory_needed after every open of a sound image, even
// embbert_engine_open(&engine, image, image_capacity, NULL, 0, NULL), which answers kEmbbertMemory;
// EMBBERT_ENGINE_MEMORY_BYTES says the same to the compiler. A larger `memory` is used as it is:
// texts near max_tokens take fewer instructions then (docs/kernels.md says how many).
//
// Tasks and interrupts. An engine serves one call at a time; put a mutex around it when several
// tasks share one. Different engines, each with a `memory` of its own, may run at once, over the
// same image too. Calls may be preempted at any point and need no interrupt disabled. Do not call
// from an interrupt handler. embbert_engine_message may be called from anywhere.
//
// Time. No call waits for anything, and every call ends. In instructions of a Cortex-M4, measured:
//   open      11 a byte of the image, most of them for its checksum: 4.4 million for 417 kB.
//   tokenize  linear in the bytes that are read: 100 to 450 a byte of most text in any script, 790
//             in a German compound of 98 letters, 1,110 in the worst found, one word of thousands.
//             Reading ends when max_tokens ids are full; a pair that does not fit is read three
//             times.
//   infer     grows with the number of tokens alone, a little faster than it: the `embbert` preset
//             takes 2.2 million for 12 tokens, 30.3 million for 128, 87 million for 256, which at
//             100 MHz is some 30 ms, 0.4 s, 1.1 s. The portable kernels take several times
//             as many. `make bench` prints it for a model and a board.
// A call may take seconds, then: infer asks embbert_options_t.progress in between whether to go on.
// On the M4 at most 1.9 million instructions lie between two calls of it with 256 tokens, 3.8
// million with 512. open and tokenize do not ask.
//
// Stack. Below 2 kB on every core; `make size` prints the deepest use, measured and computed.

#ifndef EMBBERT_H_
#define EMBBERT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embbert_kernels.h"
#include "embbert_tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

// Status of every function; 0 is success. embbert_engine_message puts it into words.
enum {
  kEmbbertOk = 0,
  kEmbbertImage = 1,             // 1..15: there is no sound image, for one of several reasons
  kEmbbertSection = 16,          // a section is missing or of the wrong size
  kEmbbertOptions = 17,          // kernel options that no kernel of this build accepts
  kEmbbertShapes = 18,           // parts that do not fit one another
  kEmbbertMemory = 19,           // `memory` is too small or not at a multiple of 8
  kEmbbertTokenizerTables = 20,  // the tokenizer's tables are not valid
  kEmbbertTokens = 21,           // infer: no token, too many, or an id outside the vocabulary
  kEmbbertArgument = 22,         // a NULL pointer, options out of range, a pair that none is for
  kEmbbertRuntime = 23,          // another backend than the kernels refused, with its own message
  kEmbbertClosed = 24,           // the engine is not open, or its last open failed
  kEmbbertAborted = 25,          // options.progress said so; the engine stays open
  kEmbbertNoEncoder = 26,        // a model with labels of its own, which learns no others
  kEmbbertLabelMemory = 27,      // no table of labels yet, or too little memory for one
  kEmbbertLabelDamaged = 28,     // what was loaded is no sound table of labels
  kEmbbertLabelModel = 29,       // a table of labels that another model has learnt
  kEmbbertLabelFull = 30,        // the table has no room for one more label
  kEmbbertLabelName = 31,        // a label's name is empty or too long
  kEmbbertLabelUnknown = 32,     // forget: there is no such label
  kEmbbertLabelSentences = 33,   // a label has learnt as many sentences as it can
  kEmbbertLabelText = 34,        // a text of which the model says nothing at all
};

// Values of embbert_config_t.task. An encoder has no labels of its own and learns some on the
// device: embbert_engine_learn.
enum { kEmbbertClassification = 0, kEmbbertRegression = 1, kEmbbertEncoder = 2 };

// What a model image says of the model as a whole.
typedef struct {
  int32_t task;              // kEmbbertClassification, ...Regression or ...Encoder
  int32_t pair;              // 1 when the model was trained on pairs of texts
  int32_t blocks;            // layers
  int32_t labels;            // logits; of an encoder the numbers of a row
  int32_t threshold;         // confidence below which an answer is unsure, in 1/10000
  int32_t logits_zero;       // zero point of the logits
  int32_t score_multiplier;  // regression: score in 1/1000 =
  int32_t score_shift;       //   (logit - zero) * multiplier * 2^shift / 65536
} embbert_config_t;

// A checked image.
typedef struct {
  const uint8_t* bytes;
  uint32_t size;
  uint32_t sections;
} embbert_image_t;

// All zero, or NULL in its place, stands for the defaults.
typedef struct {
  // Texts end after so many tokens, and memory is needed for so many: 2 or more. 0, or more than
  // the model takes: as many as it takes. Answers to shorter texts do not change.
  int32_t max_tokens;
  // Called between layers and between chunks of attention, with `context`, in the caller's task: to
  // feed a watchdog or to let others run. Anything but 0 ends the call with kEmbbertAborted. It
  // must not call the engine. NULL: nothing is called.
  int (*progress)(void* context);
  void* context;
} embbert_options_t;

// Read `model`, `config`, `image`, `max_tokens` and `memory_needed` as you like; the rest is
// private.
typedef struct {
  embbert_model_t model;
  embbert_config_t config;
  embbert_image_t image;
  int32_t max_tokens;    // the most that a text becomes
  size_t memory_needed;  // bytes; set even when open fails with kEmbbertMemory
  uint32_t state;        // whether open has succeeded
  embbert_hook_t hook;
  embbert_tokenizer_t tokenizer;
  const uint32_t* confidence;
  const char* labels;
  const char* source;  // four strings; see embbert_engine_source
  size_t source_size;
  uint16_t* ids;
  uint8_t* segments;
  int8_t* logits;
  void* work;  // what tokenizer and inference need in turn: the rest of the memory
  size_t work_size;
  void* backend;       // another backend's state
  void* labels_table;  // of an encoder, the program's; NULL: none
  size_t labels_capacity;
} embbert_engine_t;

typedef struct {
  // Index of the largest logit, the first of equals; 0 for a regression. Of an encoder that of the
  // nearest label, -1 where none is learnt.
  int32_t label;
  const char* name;      // its name, in the image or in the table of labels
  uint32_t confidence;   // in 1/10000: softmax of the dequantized logits at `label`; of an encoder
                         // the cosine of the text's row and the label's, 0 where it is below 0
  bool sure;             // confidence is at least the model's threshold
  int64_t score;         // regression: the predicted value in 1/1000
  int32_t tokens;        // how many the text became
  const int8_t* logits;  // (labels), an encoder's row; valid until the engine's next call
} embbert_result_t;

// Bytes of `memory` for a model of so many layers and labels, D = hidden, and max_tokens tokens;
// `scratch` is the largest EMBBERT_BLOCK_SCRATCH_BYTES (embbert_kernels.h) of its layers. A
// constant where the arguments are.
#define EMBBERT_ENGINE_MEMORY_BYTES(blocks, labels, hidden, max_tokens, scratch)       \
  (EMBBERT_ROUND_UP((blocks) * sizeof(embbert_block_t), 8u) +                          \
   EMBBERT_ROUND_UP(2u * (max_tokens), 8u) + EMBBERT_ROUND_UP((max_tokens) + 0u, 8u) + \
   EMBBERT_ROUND_UP((labels) + 0u, 8u) +                                               \
   EMBBERT_LARGER(EMBBERT_ROUND_UP(sizeof(embbert_tokenizer_scratch_t), 8u),           \
                  2u * EMBBERT_ROUND_UP((size_t)(max_tokens) * (hidden), 8u) +         \
                      EMBBERT_ROUND_UP((size_t)(scratch), 8u)))

// Checks the image at `image` (at a multiple of 16, at most `image_capacity` bytes) to the last bit
// and prepares `engine`. `memory`: `memory_size` bytes at a multiple of 8. `options` is read here
// and not kept; NULL: the defaults. Whatever `engine` held before is forgotten.
int embbert_engine_open(embbert_engine_t* engine, const void* image, size_t image_capacity,
                        void* memory, size_t memory_size, const embbert_options_t* options);

// Whether the last open of this engine succeeded; false for one that is all zero, as static ones
// are at first.
bool embbert_engine_is_open(const embbert_engine_t* engine);

// Tokenizes UTF-8 text, `pair` NULL or the second text. *ids, in the engine's memory, holds *count
// ids until the engine's next call: at most max_tokens, text beyond that is cut off.
int embbert_engine_tokenize(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, const uint16_t** ids,
                            size_t* count);

// Classifies 1..max_tokens ids, the first of which should be [CLS].
int embbert_engine_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count,
                         embbert_result_t* result);

// Tokenizes and classifies.
int embbert_engine_classify(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, embbert_result_t* result);

// ---- Labels that an encoder learns
// ---------------------------------------------------------------
//
// A model of config.task kEmbbertEncoder answers with the nearest of the labels that it was taught,
// from one sentence or more each, without a training step: its row of a text is compared with the
// mean of the rows of a label's sentences, all of length 1. Answers below config.threshold are
// unsure. Everything is computed in integers.
//
// The labels lie in one flat table in memory of the program's, EMBBERT_LABELS_BYTES of it at a
// multiple of 4, which outlives the last call: 32 bytes, and EMBBERT_LABEL_BYTES a label (284 with
// rows of 128). After every call its first embbert_engine_labels_bytes are complete and may be
// copied to a file or to flash; a copy of them, loaded, is checked like an image: magic, version,
// length, CRC-32, and the model that learnt it. embbert_engine_open leaves the engine without one.
//
//   static _Alignas(4) uint8_t labels[EMBBERT_LABELS_BYTES(128, 20)];  // 20 labels: 5,712 bytes
//   embbert_engine_new_labels(&engine, labels, sizeof(labels));
//   embbert_engine_learn(&engine, "kitchen_light", "turn the lamp on", 16);
//   embbert_engine_classify(&engine, "lamp on please", 14, NULL, 0, &result);

#define EMBBERT_LABEL_NAME_BYTES 24  // of a name, its terminating zero included
#define EMBBERT_LABEL_SENTENCES 255  // the most that a label learns
#define EMBBERT_LABELS_HEADER_BYTES 32u
#define EMBBERT_LABEL_BYTES(width) \
  EMBBERT_ROUND_UP(EMBBERT_LABEL_NAME_BYTES + 4u + 2u * (width), 4u)
#define EMBBERT_LABELS_BYTES(width, labels) \
  (EMBBERT_LABELS_HEADER_BYTES + (labels)*EMBBERT_LABEL_BYTES(width))

// Begins a table without labels in `bytes` bytes of memory.
int embbert_engine_new_labels(embbert_engine_t* engine, void* memory, size_t bytes);

// Goes on with a table that the program has put into `memory` of `bytes` bytes, which may be longer
// than it. When it is refused, the engine keeps the table it had, if that lay elsewhere.
int embbert_engine_load_labels(embbert_engine_t* engine, void* memory, size_t bytes);

// Teaches the label of that name, new or known, a sentence more. On failure nothing has changed.
int embbert_engine_learn(embbert_engine_t* engine, const char* label, const char* text,
                         size_t length);

// Takes a label and its sentences out of the table.
int embbert_engine_forget(embbert_engine_t* engine, const char* label);

// How many bytes of the table to save; 0 without one.
size_t embbert_engine_labels_bytes(const embbert_engine_t* engine);

// How many labels there are, learnt ones or the model's own; the name of one, "" beyond the last,
// and of how many sentences it was learnt, unless `sentences` is NULL; 0 of the model's own.
int32_t embbert_engine_label_count(const embbert_engine_t* engine);
const char* embbert_engine_label(const embbert_engine_t* engine, int32_t index, int32_t* sentences);

// What the image was made from: 0 its maker, 1 the model's name, 2 the SHA-256 of model.tflite, 3
// of tokenizer.json. Never NULL; "" where the image does not say or the engine is not open.
const char* embbert_engine_source(const embbert_engine_t* engine, int index);

// One line of English for a status; never NULL.
const char* embbert_engine_message(int status);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_H_
