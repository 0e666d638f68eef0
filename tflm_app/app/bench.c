// Instructions by number of tokens and by step, and by byte of text for the tokenizer.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

static const int32_t kLengths[] = {8, 12, 16, 32, 64, 128, 256};

// Multiply-accumulates of one inference, as ../shared/docs/embbert.md counts them, with the last
// layer computing row 0 alone.
static uint64_t multiply_accumulates(const embbert_engine_t* engine, uint64_t n) {
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

// [CLS] and then ids spread over the vocabulary, the same on every run.
static const uint16_t* fill_ids(app_t* app, int32_t n) {
  uint16_t* const ids = (uint16_t*)(void*)app->text;
  const uint32_t others = (uint32_t)app->engine.model.embed.vocab_size - 5u;
  ids[0] = EMBBERT_TOKENIZER_CLS;
  for (int32_t i = 1; i < n; i++) {
    ids[i] = others == 0 ? EMBBERT_TOKENIZER_UNK : (uint16_t)(5u + (uint32_t)i * 7919u % others);
  }
  return ids;
}

static void print_json_start(const char* implementation) {
  print_text("{\"target\": ");
  print_json_string(platform_name());
  print_text(", \"implementation\": ");
  print_json_string(implementation);
}

void bench_print_header(void) { print_text("    n    instructions   a MAC\n"); }

int bench_length(app_t* app, int32_t n) {
  const uint16_t* const ids = fill_ids(app, n);
  embbert_result_t result;
  const uint64_t before = platform_instructions();
  const int status = embbert_engine_infer(&app->engine, ids, (size_t)n, &result);
  const uint64_t spent = platform_instructions() - before;
  if (status != kEngineOk) return app_fail("bench", embbert_engine_message(status));
  const uint64_t macs = multiply_accumulates(&app->engine, (uint64_t)n);
  print_column((uint64_t)n, 5);
  print_column(spent, 16);
  print_fixed_column((int64_t)((1000 * spent + macs / 2) / macs), 3, 8);
  print_text("\n");
#ifdef EMBBERT_PROFILE
  (void)print_json_start;
#else
  print_json_start(embbert_implementation);
  print_text(", \"n\": ");
  print_number((uint64_t)n);
  print_text(", \"instructions\": ");
  print_number(spent);
  print_text(", \"macs\": ");
  print_number(macs);
  print_text("}\n");
#endif
  return 0;
}

#ifdef EMBBERT_PROFILE

// The kernels add up what each step costs; reading the clock is part of it, so the sums are a
// little above the plain program's.
uint32_t embbert_clock(void) { return platform_ticks(); }

static int bench_steps(app_t* app, int32_t n) {
  memset(embbert_profile, 0, sizeof(embbert_profile));
  const uint16_t* const ids = fill_ids(app, n);
  embbert_result_t result;
  const int status = embbert_engine_infer(&app->engine, ids, (size_t)n, &result);
  if (status != kEngineOk) return app_fail("bench", embbert_engine_message(status));
  print_column((uint64_t)n, 5);
  for (int step = 0; step < EMBBERT_STEPS; step++) {
    print_column(platform_ticks_to_instructions(embbert_profile[step]), 12);
  }
  print_text("\n");
  for (int step = 0; step < EMBBERT_STEPS; step++) {
    print_json_start(embbert_implementation);
    print_text(", \"n\": ");
    print_number((uint64_t)n);
    print_text(", \"step\": ");
    print_json_string(embbert_step_names[step]);
    print_text(", \"instructions\": ");
    print_number(platform_ticks_to_instructions(embbert_profile[step]));
    print_text("}\n");
  }
  return 0;
}

int command_bench(app_t* app) {
  if (platform_instructions() == 0) {
    return app_fail("bench", "nothing counts instructions on this target");
  }
  print_text("instructions by step, clock reads included\n    n");
  for (int step = 0; step < EMBBERT_STEPS; step++) {
    for (size_t i = strlen(embbert_step_names[step]); i < 12; i++) print_text(" ");
    print_text(embbert_step_names[step]);
  }
  print_text("\n");
  for (size_t i = 0; i < sizeof(kLengths) / sizeof(kLengths[0]); i++) {
    if (kLengths[i] > app->engine.model.embed.max_length) break;
    if (bench_steps(app, kLengths[i]) != 0) return 1;
  }
  return 0;
}

#else

// Tokenizes `repeats` copies of a phrase and prints instructions a byte.
static int bench_tokenizer(app_t* app, const char* name, const char* phrase, size_t repeats) {
  const size_t phrase_length = strlen(phrase);
  if (phrase_length * repeats + sizeof(uint16_t) > sizeof(app->text)) return 0;
  size_t length = 0;
  for (size_t i = 0; i < repeats; i++, length += phrase_length) {
    memcpy(app->text + length, phrase, phrase_length);
  }
  // Ids behind the text, so that the model's length does not cut it; the scratch is the engine's.
  const size_t ids_at = (length + 1) / 2 * 2;
  const size_t capacity = (sizeof(app->text) - ids_at) / sizeof(uint16_t);
  size_t count;
  const uint64_t before = platform_instructions();
  const int status = embbert_tokenizer_encode(
      &app->engine.tokenizer, app->text, length, NULL, 0, (uint16_t*)(void*)(app->text + ids_at),
      capacity, &count, (embbert_tokenizer_scratch_t*)(void*)app->engine.buffer_a);
  const uint64_t spent = platform_instructions() - before;
  if (status != EMBBERT_TOKENIZER_OK) {
    return app_fail("bench", embbert_tokenizer_strerror(status));
  }
  if (count == capacity) return 0;  // a small board; the count is of a part only
  print_json_start("tokenizer");
  print_text(", \"text\": ");
  print_json_string(name);
  print_text(", \"bytes\": ");
  print_number(length);
  print_text(", \"tokens\": ");
  print_number(count);
  print_text(", \"instructions\": ");
  print_number(spent);
  print_text(", \"per_byte\": ");
  print_fixed((int64_t)((10 * spent + length / 2) / length), 1);
  print_text("}\n");
  return 0;
}

int command_bench(app_t* app) {
  if (platform_instructions() == 0) {
    return app_fail("bench", "nothing counts instructions on this target");
  }
  bench_print_header();
  for (size_t i = 0; i < sizeof(kLengths) / sizeof(kLengths[0]); i++) {
    if (kLengths[i] > app->engine.model.embed.max_length) break;
    if (bench_length(app, kLengths[i]) != 0) return 1;
  }
  if (bench_tokenizer(app, "command", "turn on the kitchen light", 1) != 0) return 1;
  static const char kReview[] = "An uneven, overlong film, but its two leads are a delight. ";
  if (bench_tokenizer(app, "review", kReview, 2000 / (sizeof(kReview) - 1)) != 0) return 1;
  print_text("RAM: static ");
  print_grouped(platform_static_ram());
  print_text(" bytes, of which the model's memory ");
  print_grouped(app->engine.memory_needed);
  print_text("; stack used ");
  print_grouped(platform_stack_used());
  print_text(" of ");
  print_grouped(platform_stack_size());
  print_text("\n");
  return 0;
}

#endif
