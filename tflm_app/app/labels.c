// The labels that an encoder learns at the prompt, and the file that keeps them.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "print.h"

// Where :save writes without a path: the file of the start.
static char labels_path[512];

static int fail(const char* message) { return app_fail(labels_path, message); }

int app_begin_labels(app_t* app, const char* path) {
  embbert_engine_t* const engine = &app->engine;
  if (!app_keep_path(path, labels_path, sizeof(labels_path))) {
    return app_fail("labels", "the path is too long");
  }
  const int status = embbert_engine_new_labels(engine, app->labels, app->labels_bytes);
  if (status != kEmbbertOk) return app_fail("labels", embbert_engine_message(status));
  const int32_t file = labels_path[0] != '\0' ? platform_open_read(labels_path) : -1;
  if (file < 0) return 0;
  size_t filled = 0;
  int32_t count;
  do {
    uint8_t* const end = (uint8_t*)app->labels + filled;
    count = platform_read(file, end, app->labels_bytes - filled);
    if (count > 0) filled += (size_t)count;
  } while (count > 0 && filled < app->labels_bytes);
  uint8_t more;
  const bool whole = count == 0 || (count > 0 && platform_read(file, &more, 1) == 0);
  platform_close(file);
  if (count < 0) return fail("cannot be read");
  if (!whole) return fail("holds more labels than there is memory for; set MAX_LABELS=<number>");
  const int loaded = embbert_engine_load_labels(engine, app->labels, filled);
  if (loaded != kEmbbertOk) return fail(embbert_engine_message(loaded));
  // What the next labels may use is all the memory, not the file's length.
  engine->labels_capacity = app->labels_bytes;
  return 0;
}

// Cuts a word off the text: returns it, zero terminated, and moves `text` behind the blanks.
static char* cut_word(char** text) {
  char* const word = *text;
  char* end = word;
  while (*end != '\0' && !app_is_blank(*end)) end++;
  char* rest = end;
  while (app_is_blank(*rest)) rest++;
  *end = '\0';
  *text = rest;
  return word;
}

static void print_sentences(int32_t sentences) {
  print_number((uint64_t)sentences);
  print_text(sentences == 1 ? " sentence\n" : " sentences\n");
}

static void print_count(const app_t* app) {
  const size_t entry = EMBBERT_LABEL_BYTES((size_t)app->engine.config.labels);
  print_number((uint64_t)embbert_engine_label_count(&app->engine));
  print_text(" of ");
  print_number((app->labels_bytes - EMBBERT_LABELS_HEADER_BYTES) / entry);
  print_text(" labels, ");
  print_grouped(entry);
  print_text(" bytes of RAM each\n");
}

static void learn(app_t* app, char* text) {
  const char* const label = cut_word(&text);
  if (label[0] == '\0' || text[0] == '\0') {
    print_text("Write it as :learn label a sentence\n");
    return;
  }
  const int status = embbert_engine_learn(&app->engine, label, text, strlen(text));
  if (status != kEmbbertOk) {
    app_fail("learn", embbert_engine_message(status));
    return;
  }
  for (int32_t i = 0; i < embbert_engine_label_count(&app->engine); i++) {
    int32_t sentences;
    if (strcmp(embbert_engine_label(&app->engine, i, &sentences), label) != 0) continue;
    print_text(label);
    print_text(": ");
    print_sentences(sentences);
  }
}

static void forget(app_t* app, char* text) {
  const char* const label = cut_word(&text);
  if (label[0] == '\0' || text[0] != '\0') {
    print_text("Write it as :forget label\n");
    return;
  }
  const int status = embbert_engine_forget(&app->engine, label);
  if (status != kEmbbertOk) {
    app_fail("forget", embbert_engine_message(status));
  } else {
    print_count(app);
  }
}

static void list(app_t* app, char* text) {
  (void)text;
  for (int32_t i = 0; i < embbert_engine_label_count(&app->engine); i++) {
    int32_t sentences;
    print_text_column(embbert_engine_label(&app->engine, i, &sentences), EMBBERT_LABEL_NAME_BYTES);
    print_sentences(sentences);
  }
  print_count(app);
}

static void save(app_t* app, char* path) {
  if (path[0] == '\0') path = labels_path;
  if (path[0] == '\0') {
    print_text("Write it as :save file\n");
    return;
  }
  // Beside it first: what was saved before stays until all of this is written.
  static const char kSuffix[] = ".new";
  static char beside[sizeof(labels_path) + sizeof(kSuffix)];
  const size_t length = strlen(path);
  if (length >= sizeof(labels_path)) {
    app_fail("save", "the path is too long");
    return;
  }
  memcpy(beside, path, length);
  memcpy(beside + length, kSuffix, sizeof(kSuffix));
  const int32_t file = platform_open_write(beside);
  const size_t bytes = embbert_engine_labels_bytes(&app->engine);
  bool written = file >= 0 && platform_write_file(file, app->labels, bytes) == 0;
  if (file >= 0) written = platform_close(file) == 0 && written;
  if (!written || platform_rename(beside, path) != 0) {
    if (file >= 0) platform_remove(beside);
    app_fail(path, "cannot be written");
    return;
  }
  print_grouped(bytes);
  print_text(" bytes written to ");
  print_text(path);
  print_text("\n");
}

bool app_label_line(app_t* app, char* line, size_t length) {
  static const struct {
    const char* name;
    void (*answer)(app_t* app, char* text);
  } kLines[] = {{":learn", learn}, {":forget", forget}, {":labels", list}, {":save", save}};
  line[length] = '\0';  // The reader's buffer has room for it.
  size_t end = 0;
  while (end < length && !app_is_blank(line[end])) end++;
  for (size_t i = 0; i < sizeof(kLines) / sizeof(kLines[0]); i++) {
    if (strlen(kLines[i].name) != end || memcmp(kLines[i].name, line, end) != 0) continue;
    char* text = line;
    cut_word(&text);
    kLines[i].answer(app, text);
    return true;
  }
  return false;
}
