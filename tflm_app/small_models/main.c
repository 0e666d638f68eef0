// Answers each line of a file with the number of its label and what that cost.
//
// Started as "small_model\n<file of lines>".

#include <string.h>

#include "../app/print.h"
#include "../boards/platform.h"
#include "small_model.h"

static char text[1 << 16];
static features_t features;

static void answer(size_t length) {
  const uint64_t before = platform_counter();
  features_read(text, length, small_model_vocabulary, SMALL_MODEL_FEATURES, &features);
  const int32_t label = small_model_classify(&features);
  const uint64_t spent = platform_cost_since(before);
  print_number((uint64_t)label);
  print_text(" ");
  print_number(spent);
  print_text("\n");
}

int app_main(void);

int app_main(void) {
  static char command[1024];
  if (platform_command(command, sizeof(command)) <= 0) return 1;
  const char* const path = strchr(command, '\n');
  const int32_t file = path != NULL ? platform_open_read(path + 1) : -1;
  if (file < 0) {
    print_text("small_model: no such file\n");
    print_flush();
    return 1;
  }
  static char buffer[4096];
  size_t length = 0;
  int32_t got;
  while ((got = platform_read(file, buffer, sizeof(buffer))) > 0) {
    for (int32_t i = 0; i < got; i++) {
      if (buffer[i] != '\n') {
        if (length < sizeof(text)) text[length++] = buffer[i];
        continue;
      }
      answer(length);
      length = 0;
    }
  }
  print_flush();
  return got < 0 ? 1 : 0;
}
