// The prompt that a person types at, over the UART or the debugger's console.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "line_reader.h"
#include "print.h"

static void print_help(const app_t* app) {
  print_text(
      "Type a sentence and Enter: you get its label, the confidence and what it cost.\n"
      ":pair a ||| b  compare two texts (models of pairs)\n"
      ":info          model, hashes, memory, build\n"
      ":bench         what an answer costs, by number of tokens\n"
      ":help          this\n"
      ":quit          end\n");
  if (app->engine.config.task != kEmbbertEncoder) return;
  print_text(
      ":learn label a sentence   teaches a label, new or known, a sentence\n"
      ":forget label             takes a label out\n"
      ":labels                   what there is\n"
      ":save [file]              keeps the labels; LABELS=file brings them back\n");
}

static void answer(app_t* app, const char* text, size_t length, const char* pair,
                   size_t pair_length) {
  embbert_result_t result;
  const uint64_t before = platform_counter();
  const int status =
      embbert_engine_classify(&app->engine, text, length, pair, pair_length, &result);
  const uint64_t spent = platform_cost_since(before);
  if (status != kEmbbertOk) {
    app_fail("prompt", embbert_engine_message(status));
    return;
  }
  app_print_answer(app, &result);
  print_text(" (");
  print_number((uint64_t)result.tokens);
  print_text(" tokens");
  if (platform_cost_unit() != NULL) {
    print_text(", ");
    print_grouped(spent);
    print_text(" ");
    print_text(platform_cost_unit());
  }
  print_text(")\n");
}

static void answer_pair(app_t* app, const char* text, size_t length) {
  size_t first;
  const char* second;
  size_t second_length;
  if (app->engine.config.pair == 0) {
    print_text("This model takes one text; type it without :pair.\n");
  } else if (!app_split_pair(text, length, &first, &second, &second_length) || first == 0 ||
             second_length == 0) {
    print_text("Write it as :pair first text ||| second text\n");
  } else {
    answer(app, text, first, second, second_length);
  }
}

static bool is_command(const char* line, size_t length, const char* name) {
  return strlen(name) == length && memcmp(line, name, length) == 0;
}

// Answers one line; false when it ends the session.
static bool answer_line(app_t* app, char* line, size_t length) {
  while (length > 0 && (*line == ' ' || *line == '\t')) {
    line++;
    length--;
  }
  while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t')) length--;
  if (length == 0) {
    print_text("Nothing to read; type a sentence, or :help\n");
  } else if (line[0] != ':') {
    answer(app, line, length, NULL, 0);
  } else if (is_command(line, length, ":quit")) {
    return false;
  } else if (is_command(line, length, ":help")) {
    print_help(app);
  } else if (is_command(line, length, ":info") || is_command(line, length, ":bench")) {
    app_find_command(app, line + 1, length - 1)->run(app, NULL);
  } else if (length > 6 && memcmp(line, ":pair ", 6) == 0) {
    line += 6;
    length -= 6;
    while (length > 0 && *line == ' ') {
      line++;
      length--;
    }
    answer_pair(app, line, length);
  } else if (is_command(line, length, ":pair")) {
    answer_pair(app, "", 0);
  } else if (app->label_line == NULL || !app->label_line(app, line, length)) {
    print_text("Not a command; there are :help :info :bench :pair :quit");
    print_text(app->label_line == NULL ? "; only an encoder learns labels\n" : "\n");
  }
  return true;
}

// Words: "uart" for the UART, nothing for where the program has been started from.
int command_prompt(app_t* app, char* words) {
  static line_reader_t reader;
  if (strcmp(words, "uart") == 0) platform_use_uart(true);
  line_reader_init(&reader, app->text, PROMPT_LINE_BYTES);
  const bool echo = platform_wants_echo();
  print_text("EmbBERT on ");
  print_text(platform_name());
  print_text(", ");
  print_number((uint64_t)embbert_engine_label_count(&app->engine));
  print_text(" labels. Type a sentence, or :help\n> ");
  print_flush();
  uint32_t lost = platform_lost_bytes();
  for (;;) {
    const int byte = platform_read_byte();
    const size_t before = reader.finished ? 0 : reader.length;
    const line_event_t event = line_reader_push(&reader, byte);
    if (echo) {
      // Columns are counted as characters; a wide one leaves half of itself behind.
      for (size_t i = 0; i < reader.erased; i++) print_text("\b \b");
      if (event == kLineMore && reader.length > before) print_bytes(&app->text[before], 1);
      if (event != kLineMore) print_text("\n");
      print_flush();
    }
    switch (event) {
      case kLineMore:
        continue;
      case kLineEnd:
        return 0;
      case kLineTooLong:
        print_text("Line too long: at most ");
        print_number(PROMPT_LINE_BYTES - 1);
        print_text(" bytes.\n");
        break;
      case kLineBinary:
        print_text("Control characters are not text; type the line again.\n");
        break;
      case kLineReady:
        if (platform_lost_bytes() != lost) {
          print_text("Parts of the line were lost; type it again, after the answer.\n");
          break;
        }
        if (!answer_line(app, app->text, reader.length)) return 0;
        break;
    }
    lost = platform_lost_bytes();
    print_text("> ");
    print_flush();
  }
}
