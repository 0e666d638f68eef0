// What the engine promises beyond right answers. Two models are linked in under names of their own,
// `first` and `second` (their images made by converters/firmware/c_files.py); built with
// sanitizers.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embbert.h"
#include "first_shape.h"

extern const uint32_t first_size, second_size;
extern const uint32_t first_data[], second_data[];

static int failures;

#define EXPECT(condition)                                             \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      failures++;                                                     \
    }                                                                 \
  } while (0)

static const char kText[] =
    "turn on the kitchen light and the lamp in the hall, please, and volume up up up up up "
    "up up up up up up up up up up up up up up up up up up up up up up up up up up up up";
enum { kLength = sizeof(kText) - 1, kMostLabels = 64 };

static int open_first(embbert_engine_t* engine, void* memory, size_t size, int32_t max_tokens) {
  const embbert_options_t options = {.max_tokens = max_tokens};
  return embbert_engine_open(engine, first_data, first_size, memory, size, &options);
}

// A block of just that size, so that AddressSanitizer sees a byte too many.
static void* block(size_t size) {
  void* const memory = malloc(size);
  if (memory == NULL) exit(2);
  return memory;
}

// Too little memory, none included, is answered with how much it takes, and that much is enough.
static void test_memory(void) {
  embbert_engine_t engine;
  size_t needed_before = 0;
  static const int32_t kTokens[] = {2, 3, 4, 5, 7, 8, 15, 16, 31, 0, 500};
  for (size_t i = 0; i < sizeof(kTokens) / sizeof(kTokens[0]); i++) {
    EXPECT(open_first(&engine, NULL, 0, kTokens[i]) == kEmbbertMemory);
    const size_t needed = engine.memory_needed;
    EXPECT(needed >= needed_before && needed > 1408);
    needed_before = needed;
    void* const memory = block(needed);
    for (size_t less = 1; less < needed; less = 3 * less) {
      EXPECT(open_first(&engine, memory, needed - less, kTokens[i]) == kEmbbertMemory);
      EXPECT(engine.memory_needed == needed);
    }
    EXPECT(open_first(&engine, memory, needed, kTokens[i]) == kEmbbertOk);
    EXPECT(engine.memory_needed == needed);
    embbert_result_t result;
    EXPECT(embbert_engine_classify(&engine, kText, kLength, NULL, 0, &result) == kEmbbertOk);
    EXPECT(result.tokens == engine.max_tokens);
    free(memory);
  }
  // And the compiler's figure is the same.
#define SCRATCH_OF(i, expansion, taps) \
  char layer##i[EMBBERT_BLOCK_SCRATCH_BYTES(MODEL_HIDDEN, expansion, taps, MODEL_MAX_LENGTH)];
  typedef union {
    MODEL_BLOCK_SHAPES(SCRATCH_OF)
  } scratch_t;
  static char memory[EMBBERT_ENGINE_MEMORY_BYTES(MODEL_BLOCKS, MODEL_LABELS, MODEL_HIDDEN,
                                                 MODEL_MAX_LENGTH, sizeof(scratch_t))];
  EXPECT(sizeof(memory) == needed_before);
}

static void test_options(void) {
  embbert_engine_t engine;
  EXPECT(open_first(&engine, NULL, 0, 1) == kEmbbertArgument);
  EXPECT(open_first(&engine, NULL, 0, -1) == kEmbbertArgument);
  EXPECT(open_first(&engine, NULL, 0, INT32_MIN) == kEmbbertArgument);
  EXPECT(embbert_engine_open(NULL, first_data, first_size, NULL, 0, NULL) == kEmbbertArgument);
  EXPECT(embbert_engine_open(&engine, NULL, 0, NULL, 0, NULL) == kEmbbertArgument);
}

// Every call on an engine that is not open is an error, and writes nothing.
static void test_closed(void) {
  static embbert_engine_t never;
  embbert_engine_t failed;
  EXPECT(open_first(&failed, NULL, 0, 0) == kEmbbertMemory);
  embbert_engine_t damaged;
  static _Alignas(16) uint8_t image[64];
  EXPECT(embbert_engine_open(&damaged, image, sizeof(image), NULL, 0, NULL) != kEmbbertOk);
  embbert_engine_t once;  // opened, then failed to
  embbert_engine_t* const engines[] = {&never, &failed, &damaged, &once};
  EXPECT(open_first(&once, NULL, 0, 0) == kEmbbertMemory);
  void* const memory = block(once.memory_needed);
  EXPECT(open_first(&once, memory, once.memory_needed, 0) == kEmbbertOk);
  EXPECT(embbert_engine_is_open(&once));
  EXPECT(open_first(&once, memory, 16, 0) == kEmbbertMemory);
  free(memory);
  for (size_t i = 0; i < 4; i++) {
    embbert_result_t result;
    const uint16_t* ids;
    size_t count;
    const uint16_t cls = EMBBERT_TOKENIZER_CLS;
    EXPECT(!embbert_engine_is_open(engines[i]));
    EXPECT(embbert_engine_tokenize(engines[i], "x", 1, NULL, 0, &ids, &count) == kEmbbertClosed);
    EXPECT(embbert_engine_infer(engines[i], &cls, 1, &result) == kEmbbertClosed);
    EXPECT(embbert_engine_classify(engines[i], "x", 1, NULL, 0, &result) == kEmbbertClosed);
    EXPECT(embbert_engine_source(engines[i], 1)[0] == '\0');
  }
  EXPECT(!embbert_engine_is_open(NULL));
  EXPECT(strcmp(embbert_engine_message(kEmbbertClosed), embbert_engine_message(1000)) != 0);
}

// A shortened model answers as the whole one does to the tokens that it keeps.
static void test_max_tokens(void) {
  embbert_engine_t whole;
  EXPECT(open_first(&whole, NULL, 0, 0) == kEmbbertMemory);
  void* const memory = block(whole.memory_needed);
  EXPECT(open_first(&whole, memory, whole.memory_needed, 0) == kEmbbertOk);
  for (int32_t n = 2; n <= whole.model.embed.max_length; n++) {
    embbert_engine_t shorter;
    EXPECT(open_first(&shorter, NULL, 0, n) == kEmbbertMemory);
    void* const less = block(shorter.memory_needed);
    EXPECT(open_first(&shorter, less, shorter.memory_needed, n) == kEmbbertOk);
    const uint16_t *ids, *whole_ids;
    size_t count, whole_count;
    EXPECT(embbert_engine_tokenize(&shorter, kText, kLength, NULL, 0, &ids, &count) == kEmbbertOk);
    EXPECT(embbert_engine_tokenize(&whole, kText, kLength, NULL, 0, &whole_ids, &whole_count) ==
           kEmbbertOk);
    EXPECT(count == (size_t)n && whole_count > count - 1);
    EXPECT(memcmp(ids, whole_ids, count * sizeof(*ids)) == 0);
    embbert_result_t result, whole_result;
    EXPECT(embbert_engine_infer(&shorter, ids, count, &result) == kEmbbertOk);
    EXPECT(embbert_engine_infer(&whole, ids, count, &whole_result) == kEmbbertOk);
    EXPECT(memcmp(result.logits, whole_result.logits, (size_t)whole.config.labels) == 0);
    uint16_t more[512] = {EMBBERT_TOKENIZER_CLS};
    EXPECT(embbert_engine_infer(&shorter, more, (size_t)n + 1, &result) == kEmbbertTokens);
    free(less);
  }
  free(memory);
}

// More memory than needed, be it a multiple of 8 or not, changes no answer.
static void test_spare_memory(void) {
  static const size_t kSpare[] = {0, 1, 100, 1000, 10007, 100000};
  int8_t expected[kMostLabels];
  for (size_t i = 0; i < sizeof(kSpare) / sizeof(kSpare[0]); i++) {
    embbert_engine_t engine;
    EXPECT(open_first(&engine, NULL, 0, 0) == kEmbbertMemory);
    const size_t size = engine.memory_needed + kSpare[i];
    void* const memory = block(size);
    EXPECT(open_first(&engine, memory, size, 0) == kEmbbertOk);
    EXPECT(engine.memory_needed + kSpare[i] == size);
    embbert_result_t result;
    EXPECT(embbert_engine_classify(&engine, kText, kLength, NULL, 0, &result) == kEmbbertOk);
    if (i == 0) memcpy(expected, result.logits, (size_t)engine.config.labels);
    EXPECT(memcmp(result.logits, expected, (size_t)engine.config.labels) == 0);
    free(memory);
  }
}

typedef struct {
  int calls;
  int stop_at;
} watch_t;

static int watch(void* context) {
  watch_t* const seen = context;
  return ++seen->calls == seen->stop_at ? -7 : 0;
}

// The hook sees every layer and several chunks of each; whenever it stops the call, the engine
// remains usable and its next answer is the same.
static void test_progress(void) {
  embbert_engine_t engine;
  watch_t seen = {0, 0};
  embbert_options_t options = {.progress = watch, .context = &seen};
  EXPECT(embbert_engine_open(&engine, first_data, first_size, NULL, 0, &options) == kEmbbertMemory);
  const size_t needed = engine.memory_needed;
  void* const memory = block(needed);
  EXPECT(embbert_engine_open(&engine, first_data, first_size, memory, needed, &options) ==
         kEmbbertOk);
  options = (embbert_options_t){0};  // not kept
  embbert_result_t result;
  EXPECT(embbert_engine_classify(&engine, kText, kLength, NULL, 0, &result) == kEmbbertOk);
  EXPECT(seen.calls >= 2 * engine.config.blocks);
  int8_t expected[kMostLabels];
  memcpy(expected, result.logits, (size_t)engine.config.labels);
  const int calls = seen.calls;
  for (int stop_at = 1; stop_at <= calls; stop_at++) {
    seen = (watch_t){0, stop_at};
    EXPECT(embbert_engine_classify(&engine, kText, kLength, NULL, 0, &result) == kEmbbertAborted);
    EXPECT(seen.calls == stop_at);
    seen = (watch_t){0, 0};
    EXPECT(embbert_engine_classify(&engine, kText, kLength, NULL, 0, &result) == kEmbbertOk);
    EXPECT(memcmp(result.logits, expected, (size_t)engine.config.labels) == 0);
  }
  free(memory);
}

// Two models at once, call by call: each answers as it does alone.
static void test_two_models(void) {
  embbert_engine_t engines[2];
  const uint32_t* const images[2] = {first_data, second_data};
  const uint32_t sizes[2] = {first_size, second_size};
  void* memories[2];
  int8_t alone[2][kMostLabels];
  embbert_result_t result;
  for (int i = 0; i < 2; i++) {
    EXPECT(embbert_engine_open(&engines[i], images[i], sizes[i], NULL, 0, NULL) == kEmbbertMemory);
    memories[i] = block(engines[i].memory_needed);
    EXPECT(embbert_engine_open(&engines[i], images[i], sizes[i], memories[i],
                               engines[i].memory_needed, NULL) == kEmbbertOk);
    EXPECT(embbert_engine_classify(&engines[i], kText, kLength, NULL, 0, &result) == kEmbbertOk);
    memcpy(alone[i], result.logits, (size_t)engines[i].config.labels);
  }
  EXPECT(engines[0].config.labels != engines[1].config.labels);
  for (int turn = 0; turn < 6; turn++) {
    const uint16_t* ids[2];
    size_t counts[2];
    for (int i = 0; i < 2; i++) {
      EXPECT(embbert_engine_tokenize(&engines[i], kText, kLength, NULL, 0, &ids[i], &counts[i]) ==
             kEmbbertOk);
    }
    for (int i = 0; i < 2; i++) {
      EXPECT(embbert_engine_infer(&engines[i], ids[i], counts[i], &result) == kEmbbertOk);
      EXPECT(memcmp(result.logits, alone[i], (size_t)engines[i].config.labels) == 0);
    }
  }
  for (int i = 0; i < 2; i++) free(memories[i]);
}

int main(void) {
  test_memory();
  test_options();
  test_closed();
  test_max_tokens();
  test_spare_memory();
  test_progress();
  test_two_models();
  if (failures > 0) return 1;
  puts("all promises kept");
  return 0;
}
