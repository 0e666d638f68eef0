// How much memory the program has used, as JSON.

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

// Uses as much stack as any command can, then prints what was used.
int command_measure(app_t* app, char* words) {
  (void)words;
  static const char kSentence[] = "An uneven film (1994), but its two leads are a delight. ";
  for (size_t i = 0; i < sizeof(app->text); i++) {
    app->text[i] = kSentence[i % (sizeof(kSentence) - 1)];
  }
  const bool pair = app->engine.config.pair != 0;
  const size_t first = pair ? sizeof(app->text) / 2 : sizeof(app->text);
  embbert_result_t result;
  const int status =
      embbert_engine_classify(&app->engine, app->text, first, pair ? app->text + first : NULL,
                              sizeof(app->text) - first, &result);
  if (status != kEmbbertOk) return app_fail("measure", embbert_engine_message(status));
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
