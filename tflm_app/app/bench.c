// What an inference costs by number of tokens and by step, and the tokenizer by byte of text: in
// instructions, or what else the platform counts.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

enum { kMostLengths = 8, kSpecialTokens = 5 };

// Numbers of tokens to measure, as many as the model takes, and the most that it takes.
typedef struct {
  int32_t n[kMostLengths];
  size_t count;
} lengths_t;

static lengths_t lengths_of(const app_t* app) {
  static const int32_t kLengths[kMostLengths - 1] = {8, 12, 16, 32, 64, 128, 256};
  const int32_t most = app->engine.max_tokens;
  lengths_t lengths = {.count = 0};
  for (size_t i = 0; i < kMostLengths - 1 && kLengths[i] < most; i++) {
    lengths.n[lengths.count++] = kLengths[i];
  }
  lengths.n[lengths.count++] = most;
  return lengths;
}

static int nothing_counts(void) {
  return app_fail("bench", "nothing counts instructions on this target");
}

// [CLS] and then ids spread over the vocabulary, the same on every run; none is [PAD] or another of
// the special tokens, however small the vocabulary. They lie in the engine's own memory, which has
// room for as many as it takes.
static const uint16_t* fill_ids(app_t* app, int32_t n) {
  uint16_t* const ids = app->engine.ids;
  const uint32_t vocab_size = (uint32_t)app->engine.model.embed.vocab_size;
  ids[0] = EMBBERT_TOKENIZER_CLS;
  for (int32_t i = 1; i < n; i++) {
    ids[i] = EMBBERT_TOKENIZER_UNK;
    if (vocab_size > kSpecialTokens) {
      const uint32_t others = vocab_size - kSpecialTokens;
      ids[i] = (uint16_t)(kSpecialTokens + (uint32_t)i * 7919u % others);
    }
  }
  return ids;
}

static void print_json_start(const char* implementation) {
  print_text("{\"target\": ");
  print_json_string(platform_name());
  print_text(", \"implementation\": ");
  print_json_string(implementation);
}

// One inference of n tokens.
static int infer(app_t* app, int32_t n, uint64_t* spent) {
  const uint16_t* const ids = fill_ids(app, n);
  embbert_result_t result;
  const uint64_t before = platform_counter();
  const int status = embbert_engine_infer(&app->engine, ids, (size_t)n, &result);
  *spent = platform_cost_since(before);
  return status == kEmbbertOk ? 0 : app_fail("bench", embbert_engine_message(status));
}

static void print_cost(uint64_t cost) {
  print_text(", ");
  print_json_string(platform_cost_unit());
  print_text(": ");
  print_number(cost);
}

#ifdef EMBBERT_PROFILE

// The kernels add up what each step costs; reading the clock is part of it, so the sums are a
// little above the plain program's.
uint32_t embbert_clock(void) { return platform_ticks(); }

uint32_t embbert_clock_units(uint32_t ticks) { return (uint32_t)platform_ticks_to_cost(ticks); }

int command_bench(app_t* app, char* words) {
  (void)words;
  static uint32_t steps[kMostLengths][EMBBERT_STEPS];
  if (platform_cost_unit() == NULL) return nothing_counts();
  const lengths_t lengths = lengths_of(app);
  for (size_t i = 0; i < lengths.count; i++) {
    memset(embbert_profile, 0, sizeof(embbert_profile));
    uint64_t spent;
    if (infer(app, lengths.n[i], &spent) != 0) return 1;
    for (int step = 0; step < EMBBERT_STEPS; step++) {
      steps[i][step] = embbert_profile[step];
    }
  }
  print_text(platform_cost_unit());
  print_text(" by step, reading the counter included\n    n");
  for (int step = 0; step < EMBBERT_STEPS; step++) {
    for (size_t i = strlen(embbert_step_names[step]); i < 11; i++) print_text(" ");
    print_text(embbert_step_names[step]);
  }
  print_text("\n");
  for (size_t i = 0; i < lengths.count; i++) {
    print_column((uint64_t)lengths.n[i], 5);
    for (int step = 0; step < EMBBERT_STEPS; step++) print_column(steps[i][step], 11);
    print_text("\n");
  }
  for (size_t i = 0; i < lengths.count; i++) {
    for (int step = 0; step < EMBBERT_STEPS; step++) {
      print_json_start(embbert_implementation);
      print_text(", \"n\": ");
      print_number((uint64_t)lengths.n[i]);
      print_text(", \"step\": ");
      print_json_string(embbert_step_names[step]);
      print_cost(steps[i][step]);
      print_text("}\n");
    }
  }
  return 0;
}

#else

// Multiply-accumulates of one inference, as docs/kernels.md counts them, with the last layer
// computing row 0 alone; 0 of another model than EmbBERT, which TFLM runs.
static uint64_t multiply_accumulates(const embbert_engine_t* engine, uint64_t n) {
  if (engine->model.num_blocks == 0) return 0;
  const uint64_t d = (uint64_t)engine->model.embed.hidden;
  uint64_t total = 2 * n * (uint64_t)engine->model.embed.reduced * d;
  for (int32_t i = 0; i < engine->model.num_blocks; i++) {
    const embbert_block_t* block = &engine->model.blocks[i];
    const uint64_t inner = d * (uint64_t)block->expansion;
    const bool last = i == engine->model.num_blocks - 1;
    const uint64_t rows = last ? 1 : n;
    total += rows * (2 * d * d + d * inner + 2 * n * d);
    total += rows * inner * (last ? 1 : (uint64_t)block->taps);
  }
  return total + d * (uint64_t)engine->model.head.labels;
}

// Tokenizes `repeats` copies of a phrase. False where the text or its ids do not fit the buffer.
static bool tokenize(app_t* app, const char* phrase, size_t repeats, size_t* length, size_t* count,
                     uint64_t* spent) {
  const size_t phrase_length = strlen(phrase);
  if (phrase_length * repeats + sizeof(uint16_t) > sizeof(app->text)) return false;
  for (size_t i = 0; i < repeats; i++) memcpy(app->text + i * phrase_length, phrase, phrase_length);
  *length = phrase_length * repeats;
  // Ids behind the text, so that the model's length does not cut it; the scratch is the engine's.
  const size_t ids_at = (*length + 1) / 2 * 2;
  const size_t capacity = (sizeof(app->text) - ids_at) / sizeof(uint16_t);
  const uint64_t before = platform_counter();
  const int status = embbert_tokenizer_encode(&app->engine.tokenizer, app->text, *length, NULL, 0,
                                              (uint16_t*)(void*)(app->text + ids_at), capacity,
                                              count, app->engine.work);
  *spent = platform_cost_since(before);
  return status == EMBBERT_TOKENIZER_OK && *count < capacity;
}

static void bench_tokenizer(app_t* app) {
  static const char kCommand[] = "turn on the kitchen light";
  static const char kReview[] = "An uneven, overlong film, but its two leads are a delight. ";
  for (int i = 0; i < 2; i++) {
    size_t length;
    size_t count;
    uint64_t spent;
    const bool done =
        i == 0 ? tokenize(app, kCommand, 1, &length, &count, &spent)
               : tokenize(app, kReview, 2000 / (sizeof(kReview) - 1), &length, &count, &spent);
    if (!done) continue;
    print_json_start("tokenizer");
    print_text(i == 0 ? ", \"text\": \"command\"" : ", \"text\": \"review\"");
    print_text(", \"bytes\": ");
    print_number(length);
    print_text(", \"tokens\": ");
    print_number(count);
    print_cost(spent);
    print_text(", \"per_byte\": ");
    print_fixed((int64_t)((10 * spent + length / 2) / length), 1);
    print_text("}\n");
  }
}

static void print_inference(const app_t* app, int32_t n, uint64_t spent) {
  print_json_start(embbert_implementation);
  print_text(", \"n\": ");
  print_number((uint64_t)n);
  print_cost(spent);
  const uint64_t macs = multiply_accumulates(&app->engine, (uint64_t)n);
  if (macs > 0) {
    print_text(", \"macs\": ");
    print_number(macs);
  }
  print_text("}\n");
}

// The number that a word is, if it is one of 1..most; else 0.
static int32_t number_of(const char* word, int32_t most) {
  int32_t number = 0;
  for (; *word >= '0' && *word <= '9' && number <= most; word++) number = number * 10 + *word - '0';
  return *word == '\0' && number <= most ? number : 0;
}

// A line of JSON for each word, a number of tokens, and those of the tokenizer.
static int bench_lengths(app_t* app, char* words) {
  while (*words != '\0') {
    const int32_t n = number_of(app_next_word(&words), app->engine.max_tokens);
    uint64_t spent;
    if (n == 0) return app_fail("bench", "TOKENS are numbers up to the model's length");
    if (infer(app, n, &spent) != 0) return 1;
    print_inference(app, n, spent);
  }
  bench_tokenizer(app);
  return 0;
}

// Words: numbers of tokens; without them, or at the prompt, the whole table.
int command_bench(app_t* app, char* words) {
  static uint64_t spent[kMostLengths];
  if (platform_cost_unit() == NULL) return nothing_counts();
  if (words != NULL && *words != '\0') return bench_lengths(app, words);
  const lengths_t lengths = lengths_of(app);
  for (size_t i = 0; i < lengths.count; i++) {
    if (infer(app, lengths.n[i], &spent[i]) != 0) return 1;
  }
  print_text("    n");
  for (size_t i = strlen(platform_cost_unit()); i < 16; i++) print_text(" ");
  print_text(platform_cost_unit());
  print_text(app->engine.model.num_blocks > 0 ? "            MACs   a MAC\n" : "\n");
  for (size_t i = 0; i < lengths.count; i++) {
    const uint64_t macs = multiply_accumulates(&app->engine, (uint64_t)lengths.n[i]);
    print_column((uint64_t)lengths.n[i], 5);
    print_column(spent[i], 16);
    if (macs > 0) {
      print_column(macs, 16);
      print_fixed_column((int64_t)((1000 * spent[i] + macs / 2) / macs), 3, 8);
    }
    print_text("\n");
  }
  print_text("RAM: static ");
  print_grouped(platform_static_ram());
  print_text(" bytes, of which the model's memory ");
  print_grouped(app->engine.memory_needed);
  print_text("; stack used ");
  print_grouped(platform_stack_used());
  print_text(" of ");
  print_grouped(platform_stack_size());
  print_text("\n");
  for (size_t i = 0; i < lengths.count; i++) {
    print_inference(app, lengths.n[i], spent[i]);
  }
  bench_tokenizer(app);
  return 0;
}

#endif
