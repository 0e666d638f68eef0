#include "app.h"

#include <string.h>

#include "../boards/platform.h"
#include "model_image_data.h"
#include "model_shape.h"
#include "model_sizes.h"
#include "print.h"

#ifndef MEMORY_BYTES  // RUNTIME=tflm: model_sizes.h has it
#define MEMORY_BYTES                                                        \
  EMBBERT_ENGINE_MEMORY_BYTES(MODEL_BLOCKS, MODEL_LABELS, MODEL_MAX_LENGTH, \
                              ((size_t)MODEL_MAX_LENGTH * MODEL_HIDDEN), MODEL_SCRATCH_BYTES)
#endif

static app_t app;
static _Alignas(16) uint8_t engine_memory[MEMORY_BYTES];

int app_fail(const char* what, const char* message) {
  print_text("embbert: ");
  print_text(what);
  print_text(": ");
  print_text(message);
  print_text("\n");
  return 1;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool app_split_pair(const char* text, size_t length, size_t* first, const char** second,
                    size_t* second_length) {
  for (size_t at = 0; at + 3 <= length; at++) {
    if (memcmp(text + at, "|||", 3) != 0) continue;
    size_t begin = at + 3;
    size_t end = length;
    while (begin < end && is_blank(text[begin])) begin++;
    while (end > begin && is_blank(text[end - 1])) end--;
    while (at > 0 && is_blank(text[at - 1])) at--;
    *first = at;
    *second = text + begin;
    *second_length = end - begin;
    return true;
  }
  return false;
}

size_t app_whole_words(const char* text, size_t kept) {
  while (kept > 0 && !is_blank(text[kept - 1])) kept--;
  return kept;
}

void app_print_answer(const app_t* context, const embbert_result_t* result) {
  if (context->engine.config.task == 1) {
    print_text(result->name);
    print_text(" ");
    print_fixed(result->score, 3);
    return;
  }
  if (!result->sure) print_text("unsure, perhaps ");
  print_text(result->name);
  print_text(" ");
  print_fixed(result->confidence, 2);
  print_text(" %");
}

static void print_field(const char* name, const char* value) {
  print_text_column(name, 16);
  print_text(value);
  print_text("\n");
}

static void print_bytes_field(const char* name, uint64_t value) {
  print_text_column(name, 16);
  print_grouped(value);
  print_text(" bytes\n");
}

void app_print_info(const app_t* context) {
  const embbert_engine_t* engine = &context->engine;
  size_t size;
  const char* strings = model_image_section(&engine->image, kSectionSource, 0, &size);
  // The image's maker, the model's name, the hashes of model.tflite and tokenizer.json.
  static const char* const kNames[] = {"image made by", "model", "model.tflite", "tokenizer.json"};
  static const int kOrder[] = {1, 2, 3, 0};
  const char* values[4] = {"", "", "", ""};
  const char* const end = strings + size;
  for (int i = 0; i < 4 && strings != NULL && strings < end && end[-1] == '\0'; i++) {
    values[i] = strings;
    strings += strlen(strings) + 1;
  }
  for (int i = 0; i < 4; i++) print_field(kNames[kOrder[i]], values[kOrder[i]]);

  print_text_column("shape", 16);
  print_number((uint64_t)engine->config.blocks);
  print_text(" layers of ");
  print_number((uint64_t)engine->model.embed.hidden);
  print_text(", at most ");
  print_number((uint64_t)engine->model.embed.max_length);
  print_text(" tokens of ");
  print_number((uint64_t)engine->model.embed.vocab_size);
  print_text("\n");
  print_text_column("labels", 16);
  const char* label = engine->labels;
  for (int32_t i = 0; i < engine->config.labels; i++, label += strlen(label) + 1) {
    if (i > 0) print_text(", ");
    print_text(label);
  }
  print_text("\n");
  if (engine->config.task == 0) {
    print_text_column("unsure below", 16);
    print_fixed(engine->config.threshold, 2);
    print_text(" %\n");
  }
  print_bytes_field("model image", engine->image.size);
  print_bytes_field("model memory", engine->memory_needed);
  if (platform_stack_size() > 0) {
    print_bytes_field("static RAM", platform_static_ram());
    print_text_column("stack", 16);
    print_grouped(platform_stack_used());
    print_text(" used of ");
    print_grouped(platform_stack_size());
    print_text(" bytes\n");
  }
  print_field("target", platform_name());
  print_field("kernels", embbert_implementation);
#ifdef __clang__
  print_field("compiler", __VERSION__);
#else
  print_field("compiler", "gcc " __VERSION__);
#endif
  print_field("build", BUILD_ID);
}

static int classify(const char* text, size_t length) {
  size_t first = length;
  const char* second = NULL;
  size_t second_length = 0;
  if (app.engine.config.pair != 0) {
    app_split_pair(text, length, &first, &second, &second_length);
  }
  embbert_result_t result;
  const uint64_t before = platform_counter();
  const int status =
      embbert_engine_classify(&app.engine, text, first, second, second_length, &result);
  const uint64_t spent = platform_instructions_since(before);
  if (status != kEngineOk) return app_fail("run", embbert_engine_message(status));
  app_print_answer(&app, &result);
  print_text("\ntokens ");
  print_number((uint64_t)result.tokens);
  if (spent > 0) {
    print_text(", instructions ");
    print_grouped(spent);
  }
  print_text("\n");
  return 0;
}

// The ids of a file's lines, a line of text a line of ids. Lines end with LF alone: all other bytes
// are text, for the tokenizer to judge.
static int tokenize_file(const char* path) {
  const int32_t file = platform_open_read(path);
  if (file < 0) return app_fail(path, "cannot be opened");
  static uint8_t block[256];
  size_t length = 0;
  bool cut = false;
  bool pending = false;  // something since the last line end
  for (;;) {
    const int32_t count = platform_read(file, block, sizeof(block));
    if (count < 0) return app_fail(path, "cannot be read");
    for (int32_t i = 0; i < count || (count == 0 && pending); i++) {
      if (count > 0 && block[i] != '\n') {
        pending = true;
        if (length < sizeof(app.text)) {
          app.text[length++] = (char)block[i];
        } else {
          cut = true;
        }
        continue;
      }
      if (cut) length = app_whole_words(app.text, length);
      const uint16_t* ids;
      size_t tokens;
      const int status =
          embbert_engine_tokenize(&app.engine, app.text, length, NULL, 0, &ids, &tokens);
      if (status != kEngineOk) return app_fail(path, embbert_engine_message(status));
      if (cut && tokens < (size_t)app.engine.model.embed.max_length) {
        return app_fail(path, "a line is longer than this board's text buffer");
      }
      for (size_t t = 0; t < tokens; t++) {
        if (t > 0) print_text(" ");
        print_number(ids[t]);
      }
      print_text("\n");
      length = 0;
      cut = pending = false;
    }
    if (count == 0) break;
  }
  platform_close(file);
  return 0;
}

// Uses as much stack as any command can, then prints what was used.
static int measure(void) {
  static const char kSentence[] = "An uneven film (1994), but its two leads are a delight. ";
  for (size_t i = 0; i < sizeof(app.text); i++) {
    app.text[i] = kSentence[i % (sizeof(kSentence) - 1)];
  }
  const bool pair = app.engine.config.pair != 0;
  const size_t first = pair ? sizeof(app.text) / 2 : sizeof(app.text);
  embbert_result_t result;
  const int status =
      embbert_engine_classify(&app.engine, app.text, first, pair ? app.text + first : NULL,
                              sizeof(app.text) - first, &result);
  if (status != kEngineOk) return app_fail("measure", embbert_engine_message(status));
  print_text("{\"tokens\": ");
  print_number((uint64_t)result.tokens);
  print_text(", \"stack_used\": ");
  print_number(platform_stack_used());
  print_text(", \"stack_size\": ");
  print_number(platform_stack_size());
  print_text(", \"static_ram\": ");
  print_number(platform_static_ram());
  print_text("}\n");
  return 0;
}

static int open_engine(void) {
  const int status = embbert_engine_open(&app.engine, model_image_data, model_image_size,
                                         engine_memory, sizeof(engine_memory));
  if (status == kEngineOk) return 0;
#ifndef EMBBERT_OTHER_BACKEND  // whose message has the arena's figures
  if (status == kEngineMemory) {
    print_text("embbert: the model needs ");
    print_number(app.engine.memory_needed);
    print_text(" bytes, has ");
    print_number(sizeof(engine_memory));
    print_text("\n");
  }
#endif
  return app_fail("model image", embbert_engine_message(status));
}

// Cuts a line off the command: returns it, zero terminated, and moves `rest` behind it.
static char* next_word(char** rest) {
  char* const word = *rest;
  char* const end = strchr(word, '\n');
  if (end == NULL) {
    *rest = word + strlen(word);
  } else {
    *end = '\0';
    *rest = end + 1;
  }
  return word;
}

static int dispatch(void) {
  const int32_t length = platform_command(app.text, sizeof(app.text));
  if (length < 0) return app_fail("run", "the text is longer than this board's text buffer");
  const int opened = open_engine();
  if (opened != 0) return opened;
  char* rest = app.text;
  const char* const command = next_word(&rest);
  if (strcmp(command, "run") == 0) {
    const size_t text_length = strlen(rest);
    bool blank = true;
    for (size_t i = 0; i < text_length; i++) blank = blank && is_blank(rest[i]);
    if (blank) return app_fail("run", "the text is empty; say TEXT=\"turn on the light\"");
    return classify(rest, text_length);
  }
  if (command[0] == '\0' || strcmp(command, "prompt") == 0) {
    if (strcmp(rest, "uart") == 0) platform_use_uart(true);
    return command_prompt(&app);
  }
  if (strcmp(command, "bench") == 0) return command_bench(&app);
  if (strcmp(command, "info") == 0) {
    app_print_info(&app);
    return 0;
  }
  if (strcmp(command, "measure") == 0) return measure();
  if (strcmp(command, "tokenize") == 0 || strcmp(command, "eval") == 0) {
    // The paths must survive the text buffer.
    static char paths[2][512];
    for (int i = 0; i < 2; i++) {
      const char* const path = next_word(&rest);
      const size_t bytes = strlen(path) + 1;
      if (bytes > sizeof(paths[i])) return app_fail(command, "a path is too long");
      memcpy(paths[i], path, bytes);
    }
    if (command[0] == 't') return tokenize_file(paths[0]);
    return command_eval(&app, paths[0], paths[1][0] != '\0' ? paths[1] : NULL);
  }
  return app_fail(command, "not a command; there are run, prompt, eval, tokenize, bench, info");
}

int app_main(void) {
  const int status = dispatch();
  print_flush();
  return status;
}
