// Texts as the commands take them apart and put them out.

#include <string.h>

#include "app.h"
#include "print.h"

int app_fail(const char* what, const char* message) {
  print_text("embbert: ");
  print_text(what);
  print_text(": ");
  print_text(message);
  print_text("\n");
  return 1;
}

bool app_is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool app_split_pair(const char* text, size_t length, size_t* first, const char** second,
                    size_t* second_length) {
  for (size_t at = 0; at + 3 <= length; at++) {
    if (memcmp(text + at, "|||", 3) != 0) continue;
    size_t begin = at + 3;
    size_t end = length;
    while (begin < end && app_is_blank(text[begin])) begin++;
    while (end > begin && app_is_blank(text[end - 1])) end--;
    while (at > 0 && app_is_blank(text[at - 1])) at--;
    *first = at;
    *second = text + begin;
    *second_length = end - begin;
    return true;
  }
  return false;
}

size_t app_whole_words(const char* text, size_t kept) {
  while (kept > 0 && !app_is_blank(text[kept - 1])) kept--;
  return kept;
}

void app_print_answer(const app_t* app, const embbert_result_t* result) {
  if (app->engine.config.task == kEmbbertRegression) {
    print_text(result->name);
    print_text(" ");
    print_fixed(result->score, 3);
    return;
  }
  if (result->label < 0) {
    print_text("no labels yet; teach one by :learn label a sentence");
    return;
  }
  if (!result->sure) print_text("unsure, perhaps ");
  print_text(result->name);
  print_text(" ");
  print_fixed(result->confidence, 2);
  print_text(" %");
}

char* app_next_word(char** words) {
  char* const word = *words;
  char* const end = strchr(word, '\n');
  if (end == NULL) {
    *words = word + strlen(word);
  } else {
    *end = '\0';
    *words = end + 1;
  }
  return word;
}

bool app_keep_path(const char* path, char* copy, size_t capacity) {
  const size_t bytes = strlen(path) + 1;
  if (bytes > capacity) return false;
  memcpy(copy, path, bytes);
  return true;
}
