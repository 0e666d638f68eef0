// A program that finds out whether an arena suffices: "<bytes>\n<tokens>" opens the engine with an
// arena of that many bytes and classifies that many tokens (0: none).
// converters/firmware/size_arena.py runs it in the emulator with one size after another. It is
// built with MODEL_ARENA_BYTES = 0, so that TFLM itself gets to see every size.

#include <string.h>

#include "../app/model_image_data.h"
#include "../app/print.h"
#include "../boards/platform.h"
#include "embbert.h"
#include "embbert_tflm.h"
#include "model_shape.h"

#ifndef TRIAL_ARENA_BYTES
#define TRIAL_ARENA_BYTES (448 * 1024)
#endif

#define OVERHEAD \
  EMBBERT_TFLM_OVERHEAD(MODEL_OPERATORS, MODEL_BLOCKS, MODEL_LABELS, MODEL_MAX_LENGTH)

static embbert_engine_t engine;
static _Alignas(16) uint8_t memory[OVERHEAD + TRIAL_ARENA_BYTES];
static uint16_t ids[MODEL_MAX_LENGTH];

static size_t read_number(const char** text) {
  size_t value = 0;
  while (**text >= '0' && **text <= '9') value = value * 10 + (size_t)(*(*text)++ - '0');
  if (**text == '\n') (*text)++;
  return value;
}

static int fail(const char* message) {
  print_text("embbert: ");
  print_text(message);
  print_text("\n");
  print_flush();
  return 1;
}

int app_main(void) {
  char command[64];
  if (platform_command(command, sizeof(command)) <= 0) return fail("give the arena's bytes");
  const char* text = command;
  const size_t arena = read_number(&text);
  const size_t asked = read_number(&text);
  // A model may take fewer than its arena is usually tried with.
  const size_t tokens = asked < MODEL_MAX_LENGTH ? asked : MODEL_MAX_LENGTH;
  if (arena > TRIAL_ARENA_BYTES) return fail("the arena is larger than this program's memory");
  int status = embbert_engine_open(&engine, model_image_data, model_image_size, memory,
                                   OVERHEAD + arena, NULL);
  if (status != kEmbbertOk) return fail(embbert_engine_message(status));
  print_text("{\"used_bytes\": ");
  print_number(embbert_tflm_arena_used(&engine));
  if (tokens > 0) {
    // As in app/bench.c: [CLS], then ids spread over the vocabulary.
    const uint32_t vocab_size = (uint32_t)engine.model.embed.vocab_size;
    ids[0] = EMBBERT_TOKENIZER_CLS;
    for (uint32_t i = 1; i < tokens; i++) {
      ids[i] =
          vocab_size > 5u ? (uint16_t)(5u + i * 7919u % (vocab_size - 5u)) : EMBBERT_TOKENIZER_UNK;
    }
    embbert_result_t result;
    const uint64_t before = platform_counter();
    status = embbert_engine_infer(&engine, ids, tokens, &result);
    const uint64_t spent = platform_cost_since(before);
    if (status != kEmbbertOk) return fail(embbert_engine_message(status));
    print_text(", ");
    print_json_string(platform_cost_unit() != NULL ? platform_cost_unit() : "instructions");
    print_text(": ");
    print_number(spent);
    print_text(", \"logits\": [");
    for (int32_t i = 0; i < engine.config.labels; i++) {
      if (i > 0) print_text(", ");
      if (result.logits[i] < 0) print_text("-");
      print_number((uint64_t)(result.logits[i] < 0 ? -result.logits[i] : result.logits[i]));
    }
    print_text("]");
  }
  print_text("}\n");
  print_flush();
  return 0;
}
