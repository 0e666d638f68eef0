// Opens the model and does what the command says: the table of commands, and the memory of a model.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "model_image_data.h"
#include "model_shape.h"
#include "print.h"

// The most tokens that a text becomes here: MAX_TOKENS of the Makefile, where the model takes more.
#if defined(MAX_TOKENS) && MAX_TOKENS < MODEL_MAX_LENGTH
#define MODEL_TOKENS MAX_TOKENS
#else
#define MODEL_TOKENS MODEL_MAX_LENGTH
#endif

#ifdef EMBBERT_OTHER_BACKEND
#include "model_sizes.h"  // MEMORY_BYTES
#else
// As large as the largest layer's scratch.
#define SCRATCH_OF(i, expansion, taps) \
  char layer##i[EMBBERT_BLOCK_SCRATCH_BYTES(MODEL_HIDDEN, expansion, taps, MODEL_TOKENS)];
typedef union {
  MODEL_BLOCK_SHAPES(SCRATCH_OF)
} scratch_t;
// And what the Makefile gives the kernels to spare.
#define MEMORY_BYTES                                                                  \
  EMBBERT_ENGINE_MEMORY_BYTES(MODEL_BLOCKS, MODEL_LABELS, MODEL_HIDDEN, MODEL_TOKENS, \
                              sizeof(scratch_t) + SPARE_BYTES)
#endif

static const command_t kCommands[] = {
    {"run", command_run},         {"prompt", command_prompt},
    {"eval", command_eval},       {"tokenize", command_tokenize},
    {"bench", command_bench},     {"info", command_info},
    {"measure", command_measure}, {NULL, NULL},
};

// How many labels an encoder may learn: MAX_LABELS of the Makefile. Other models have theirs.
#if MODEL_IS_ENCODER
#define LABELS MAX_LABELS
static _Alignas(8) uint8_t labels_memory[EMBBERT_LABELS_BYTES(MODEL_LABELS, MAX_LABELS)];
#else
#define LABELS MODEL_LABELS
#endif

static class_counts_t class_counts[LABELS];
static app_t app;
static _Alignas(16) uint8_t engine_memory[MEMORY_BYTES];

const command_t* app_find_command(const app_t* context, const char* name, size_t length) {
  for (const command_t* command = context->commands; command->name != NULL; command++) {
    if (strlen(command->name) == length && memcmp(command->name, name, length) == 0) return command;
  }
  return NULL;
}

static int open_engine(void) {
  const embbert_options_t options = {.max_tokens = MODEL_TOKENS};
  const int status = embbert_engine_open(&app.engine, model_image_data, model_image_size,
                                         engine_memory, sizeof(engine_memory), &options);
  if (status == kEmbbertOk) return 0;
#ifndef EMBBERT_OTHER_BACKEND  // whose message has the arena's figures
  if (status == kEmbbertMemory) {
    print_text("embbert: the model needs ");
    print_number(app.engine.memory_needed);
    print_text(" bytes, has ");
    print_number(sizeof(engine_memory));
    print_text("\n");
  }
#endif
  return app_fail("model image", embbert_engine_message(status));
}

// The file with labels, "" for none.
static int begin_labels(const char* path) {
#if MODEL_IS_ENCODER
  app.label_line = app_label_line;
  return app_begin_labels(&app, path);
#else
  return path[0] == '\0' ? 0 : app_fail(path, embbert_engine_message(kEmbbertNoEncoder));
#endif
}

// Reads the command; without one, people may type.
static int dispatch(void) {
  const int32_t length = platform_command(app.text, sizeof(app.text));
  if (length < 0) return app_fail("run", "the text is longer than this board's text buffer");
  const int opened = open_engine();
  if (opened != 0) return opened;
  char* words = app.text;
  const char* name = app_next_word(&words);
  if (strncmp(name, "labels=", 7) == 0) {
    if (begin_labels(name + 7) != 0) return 1;
    name = app_next_word(&words);
  } else if (begin_labels("") != 0) {
    return 1;
  }
  if (name[0] == '\0') name = "prompt";
  const command_t* const command = app_find_command(&app, name, strlen(name));
  if (command == NULL) {
    return app_fail(name, "not a command; there are run, prompt, eval, tokenize, bench, info");
  }
  return command->run(&app, words);
}

int app_main(void) {
  // Here, for an initializer would put the text buffer, too, into flash.
  app.commands = kCommands;
  app.build = BUILD_ID;
  app.class_counts = class_counts;
#if MODEL_IS_ENCODER
  app.labels = labels_memory;
  app.labels_bytes = sizeof(labels_memory);
#endif
  const int status = dispatch();
  print_flush();
  return status;
}
