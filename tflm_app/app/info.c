// What is known of model, memory and build, and how deep the stack has been.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

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

int command_info(app_t* app, char* words) {
  (void)words;
  const embbert_engine_t* engine = &app->engine;
  static const char* const kNames[] = {"image made by", "model", "model.tflite", "tokenizer.json"};
  static const int kOrder[] = {1, 2, 3, 0};
  for (int i = 0; i < 4; i++) {
    print_field(kNames[kOrder[i]], embbert_engine_source(engine, kOrder[i]));
  }

  print_text_column("shape", 16);
  print_number((uint64_t)engine->config.blocks);
  print_text(" layers of ");
  print_number((uint64_t)engine->model.embed.hidden);
  print_text(", at most ");
  print_number((uint64_t)engine->max_tokens);
  print_text(" tokens of ");
  print_number((uint64_t)engine->model.embed.vocab_size);
  print_text("\n");
  print_text_column("labels", 16);
  for (int32_t i = 0; i < embbert_engine_label_count(engine); i++) {
    if (i > 0) print_text(", ");
    print_text(embbert_engine_label(engine, i, NULL));
  }
  print_text("\n");
  if (engine->config.task != kEmbbertRegression) {
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
  print_field("build", app->build);
  return 0;
}
