// Accuracy over a CSV file that the device reads itself.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "csv_reader.h"
#include "print.h"

static const char kTooLong[] = "the text is longer than this board's text buffer";

static int32_t read_file(void* context, void* buffer, size_t capacity) {
  return platform_read(*(const int32_t*)context, buffer, capacity);
}

static int fail_at(const char* path, uint32_t line, const char* message) {
  print_text("embbert: ");
  print_text(path);
  print_text(":");
  print_number(line);
  print_text(": ");
  print_text(message);
  print_text("\n");
  return 1;
}

static void trim(char** text, size_t* length) {
  while (*length > 0 && (unsigned char)(*text)[*length - 1] <= ' ') (*length)--;
  while (*length > 0 && (unsigned char)**text <= ' ') {
    (*text)++;
    (*length)--;
  }
}

// Which of the columns `text`, `text_pair` and `label` a field belongs to.
typedef enum { kText, kPair, kLabel, kColumns } column_t;

typedef struct {
  int at[kColumns];  // position of each column in the row, -1 for none
  int count;
} header_t;

static csv_status_t read_header(csv_reader_t* csv, header_t* header) {
  static const char* const kNames[kColumns] = {"text", "text_pair", "label"};
  *header = (header_t){{-1, -1, -1}, 0};
  do {
    char buffer[32];
    const csv_status_t status = csv_reader_next(csv, buffer, sizeof(buffer));
    if (status != kCsvField) return status;
    char* name = buffer;
    size_t length = csv->length;
    if (length <= sizeof(buffer)) {
      trim(&name, &length);
      for (int i = 0; i < kColumns; i++) {
        if (length == strlen(kNames[i]) && memcmp(name, kNames[i], length) == 0 &&
            header->at[i] < 0) {
          header->at[i] = header->count;
        }
      }
    }
    header->count++;
  } while (!csv->last);
  return kCsvField;
}

// A row's fields within the text buffer, and the line it begins at.
typedef struct {
  char* field[kColumns];
  size_t length[kColumns];
  bool cut;  // a text did not fit and lost its end
  uint32_t line;
  const char* problem;  // NULL for a good row
} row_t;

// Reads a row into app->text: the label, the texts. Returns kCsvEnd after the last.
static csv_status_t read_row(app_t* app, csv_reader_t* csv, const header_t* header, row_t* row) {
  *row = (row_t){.field = {app->text, app->text, app->text}, .line = csv->line};
  char* free_at = app->text;
  size_t free_bytes = sizeof(app->text);
  int index = 0;
  do {
    column_t column = kColumns;
    for (int i = 0; i < kColumns; i++) {
      if (header->at[i] == index) column = (column_t)i;
    }
    // Two texts share the buffer, and a label that comes after them needs room.
    size_t capacity = column == kColumns ? 0 : free_bytes;
    if (column == kText && header->at[kPair] > index) capacity /= 2;
    if (column != kLabel && header->at[kLabel] > index && capacity > free_bytes - 128) {
      capacity = free_bytes > 128 ? free_bytes - 128 : 0;
    }
    const csv_status_t status = csv_reader_next(csv, free_at, capacity);
    if (index == 0) row->line = csv->begins;
    if (status != kCsvField) {
      if (status == kCsvMalformed) row->problem = "not valid CSV";
      if (status == kCsvFailed) row->problem = "cannot be read";
      return status;
    }
    if (column != kColumns) {
      size_t kept = csv->length;
      if (kept > capacity) {
        if (column == kLabel) row->problem = "a label that long is not among the model's";
        row->cut = true;
        kept = app_whole_words(free_at, capacity);
        if (kept == 0 && row->problem == NULL) row->problem = kTooLong;
      }
      row->field[column] = free_at;
      row->length[column] = kept;
      free_at += kept;
      free_bytes -= kept;
      trim(&row->field[column], &row->length[column]);
    }
    index++;
  } while (!csv->last);
  if (index != header->count) {
    row->problem = "another number of fields than in the header";
  } else if (row->length[kText] == 0 || row->length[kLabel] == 0 ||
             (header->at[kPair] >= 0 && row->length[kPair] == 0)) {
    if (row->problem == NULL) row->problem = "an empty text or label";
  }
  return kCsvField;
}

static int32_t find_label(const embbert_engine_t* engine, const char* text, size_t length) {
  const char* name = engine->labels;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    const size_t name_length = strlen(name);
    if (name_length == length && memcmp(name, text, length) == 0) return i;
    name += name_length + 1;
  }
  return -1;
}

// A decimal number such as -1.25 in 1/1000; false when it is none.
static bool parse_score(const char* text, size_t length, int32_t* milli) {
  size_t i = 0;
  const bool negative = length > 0 && text[0] == '-';
  if (negative || (length > 0 && text[0] == '+')) i++;
  int32_t value = 0;
  int32_t unit = 0;  // 0 before the point, then 1000, 100, ...
  bool digits = false;
  for (; i < length; i++) {
    if (text[i] == '.' && unit == 0) {
      unit = 1000;
    } else if (text[i] >= '0' && text[i] <= '9') {
      digits = true;
      const int32_t digit = text[i] - '0';
      if (unit == 0) {
        if (value >= 200000 * 1000) return false;
        value = value * 10 + digit * 1000;
      } else {
        unit /= 10;
        value += digit * unit;
        if (unit == 0) unit = 1;  // digits beyond the third do not count
      }
    } else {
      return false;
    }
  }
  *milli = negative ? -value : value;
  return digits;
}

typedef struct {
  uint32_t rows;
  uint32_t right;
  uint32_t unsure;
  uint64_t error;  // regression: sum of absolute differences in 1/1000
  uint64_t tokens;
  uint64_t instructions;
  uint64_t most_instructions;
} totals_t;

static const char* evaluate_row(app_t* app, const row_t* row, int32_t logits_file,
                                totals_t* totals) {
  embbert_engine_t* const engine = &app->engine;
  const bool regression = engine->config.task == 1;
  int32_t expected = 0;
  if (regression) {
    if (!parse_score(row->field[kLabel], row->length[kLabel], &expected)) {
      return "the label is not a number";
    }
  } else {
    expected = find_label(engine, row->field[kLabel], row->length[kLabel]);
    if (expected < 0) return "the label is not among the model's";
  }
  embbert_result_t result;
  const char* const pair = engine->config.pair != 0 ? row->field[kPair] : NULL;
  const uint64_t before = platform_counter();
  const int status = embbert_engine_classify(engine, row->field[kText], row->length[kText], pair,
                                             row->length[kPair], &result);
  const uint64_t spent = platform_instructions_since(before);
  if (status != kEngineOk) return embbert_engine_message(status);
  // What a cut text lost lay behind the last token, or it would have changed the ids. Of a pair,
  // the lengths of both decide what is cut off.
  if (row->cut && (pair != NULL || result.tokens < engine->model.embed.max_length)) {
    return kTooLong;
  }
  totals->rows++;
  totals->right += !regression && result.label == expected;
  totals->unsure += !result.sure;
  const int32_t difference = result.score - expected;
  if (regression) totals->error += (uint64_t)(difference < 0 ? -difference : difference);
  totals->tokens += (uint64_t)result.tokens;
  totals->instructions += spent;
  if (spent > totals->most_instructions) totals->most_instructions = spent;
  if (logits_file >= 0 &&
      platform_write_file(logits_file, result.logits, (size_t)engine->config.labels) != 0) {
    return "the logits cannot be written";
  }
  return NULL;
}

static void print_totals(const app_t* app, const totals_t* totals) {
  const bool regression = app->engine.config.task == 1;
  print_text("rows ");
  print_number(totals->rows);
  if (regression) {
    print_text(", mean absolute error ");
    print_fixed((int64_t)(totals->error / totals->rows), 3);
  } else {
    print_text(", accuracy ");
    print_fixed((int64_t)((10000ull * totals->right + totals->rows / 2) / totals->rows), 2);
    print_text(" %, unsure ");
    print_number(totals->unsure);
  }
  print_text(", tokens a row ");
  print_fixed((int64_t)(10 * totals->tokens / totals->rows), 1);
  if (totals->instructions > 0) {
    print_text(", instructions a row ");
    print_grouped(totals->instructions / totals->rows);
    print_text(", at most ");
    print_grouped(totals->most_instructions);
  }
  print_text("\n{\"target\": ");
  print_json_string(platform_name());
  print_text(", \"implementation\": ");
  print_json_string(embbert_implementation);
  print_text(", \"count\": ");
  print_number(totals->rows);
  if (regression) {
    print_text(", \"mean_absolute_error\": ");
    print_fixed((int64_t)(totals->error / totals->rows), 3);
  } else {
    print_text(", \"correct\": ");
    print_number(totals->right);
    print_text(", \"accuracy\": ");
    print_fixed((int64_t)((1000000ull * totals->right + totals->rows / 2) / totals->rows), 6);
    print_text(", \"unsure\": ");
    print_number(totals->unsure);
  }
  print_text(", \"tokens\": ");
  print_number(totals->tokens);
  print_text(", \"instructions\": ");
  print_number(totals->instructions);
  print_text("}\n");
}

int command_eval(app_t* app, const char* path, const char* logits_path) {
  static csv_reader_t csv;
  const int32_t file = platform_open_read(path);
  if (file < 0) return app_fail(path, "cannot be opened");
  int32_t logits_file = -1;
  if (logits_path != NULL) {
    logits_file = platform_open_write(logits_path);
    if (logits_file < 0) return app_fail(logits_path, "cannot be written");
  }
  int32_t handle = file;
  csv_reader_init(&csv, read_file, &handle);
  header_t header;
  if (read_header(&csv, &header) != kCsvField || header.at[kText] < 0 || header.at[kLabel] < 0 ||
      (app->engine.config.pair != 0 && header.at[kPair] < 0)) {
    return fail_at(path, 1,
                   app->engine.config.pair != 0 ? "expected the header text,text_pair,label"
                                                : "expected the header text,label");
  }
  static totals_t totals;
  totals = (totals_t){0};
  for (;;) {
    row_t row;
    const csv_status_t status = read_row(app, &csv, &header, &row);
    if (status == kCsvEnd) break;
    if (row.problem == NULL) row.problem = evaluate_row(app, &row, logits_file, &totals);
    if (row.problem != NULL) return fail_at(path, row.line, row.problem);
  }
  platform_close(file);
  if (logits_file >= 0 && platform_close(logits_file) != 0) {
    return app_fail(logits_path, "cannot be written");
  }
  if (totals.rows == 0) return app_fail(path, "no rows after the header");
  print_totals(app, &totals);
  return 0;
}
