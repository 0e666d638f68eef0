// One text, given on the command line.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

int command_run(app_t* app, char* words) {
  const char* const text = words;
  const size_t length = strlen(text);
  bool blank = true;
  for (size_t i = 0; i < length; i++) blank = blank && app_is_blank(text[i]);
  if (blank) return app_fail("run", "the text is empty; say TEXT=\"turn on the light\"");
  size_t first = length;
  const char* second = NULL;
  size_t second_length = 0;
  if (app->engine.config.pair != 0) {
    app_split_pair(text, length, &first, &second, &second_length);
  }
  embbert_result_t result;
  const uint64_t before = platform_counter();
  const int status =
      embbert_engine_classify(&app->engine, text, first, second, second_length, &result);
  const uint64_t spent = platform_cost_since(before);
  if (status != kEmbbertOk) return app_fail("run", embbert_engine_message(status));
  app_print_answer(app, &result);
  print_text("\ntokens ");
  print_number((uint64_t)result.tokens);
  if (platform_cost_unit() != NULL) {
    print_text(", ");
    print_text(platform_cost_unit());
    print_text(" ");
    print_grouped(spent);
  }
  print_text("\n");
  return 0;
}
