// The ids of a file's lines, a line of text a line of ids. Lines end with LF alone: all other bytes
// are text, for the tokenizer to judge.

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

// A line on its way into the text buffer.
typedef struct {
  size_t length;
  bool cut;      // it is longer than the buffer
  bool pending;  // something since the last line end
} line_t;

static int print_ids(app_t* app, const char* path, line_t* line) {
  if (line->cut) line->length = app_whole_words(app->text, line->length);
  const uint16_t* ids;
  size_t count;
  const int status =
      embbert_engine_tokenize(&app->engine, app->text, line->length, NULL, 0, &ids, &count);
  if (status != kEmbbertOk) return app_fail(path, embbert_engine_message(status));
  if (line->cut && count < (size_t)app->engine.max_tokens) {
    return app_fail(path, "a line is longer than this board's text buffer");
  }
  for (size_t t = 0; t < count; t++) {
    if (t > 0) print_text(" ");
    print_number(ids[t]);
  }
  print_text("\n");
  *line = (line_t){0};
  return 0;
}

static void append(app_t* app, line_t* line, uint8_t byte) {
  line->pending = true;
  if (line->length < sizeof(app->text)) {
    app->text[line->length++] = (char)byte;
  } else {
    line->cut = true;
  }
}

int command_tokenize(app_t* app, char* words) {
  static char path[512];
  static uint8_t block[256];
  const char* const word = app_next_word(&words);
  if (!app_keep_path(word, path, sizeof(path))) return app_fail("tokenize", "a path is too long");
  const int32_t file = platform_open_read(path);
  if (file < 0) return app_fail(path, "cannot be opened");
  line_t line = {0};
  int32_t count;
  int status = 0;
  while (status == 0 && (count = platform_read(file, block, sizeof(block))) != 0) {
    if (count < 0) return app_fail(path, "cannot be read");
    for (int32_t i = 0; i < count && status == 0; i++) {
      if (block[i] == '\n') {
        status = print_ids(app, path, &line);
      } else {
        append(app, &line, block[i]);
      }
    }
  }
  if (status == 0 && line.pending) status = print_ids(app, path, &line);
  platform_close(file);
  return status;
}
