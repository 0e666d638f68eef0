// The task's metrics over a CSV file that the device reads itself.

#include <string.h>

#include "../boards/platform.h"
#include "app.h"
#include "csv_reader.h"
#include "metrics.h"
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
  size_t label_bytes;  // room that a label needs, with blanks around it
} header_t;

static size_t longest_label(const embbert_engine_t* engine) {
  size_t longest = 0;
  for (int32_t i = 0; i < embbert_engine_label_count(engine); i++) {
    const size_t length = strlen(embbert_engine_label(engine, i, NULL));
    if (length > longest) longest = length;
  }
  return longest;
}

static csv_status_t read_header(csv_reader_t* csv, const embbert_engine_t* engine,
                                header_t* header) {
  static const char* const kNames[kColumns] = {"text", "text_pair", "label"};
  *header = (header_t){.at = {-1, -1, -1}, .label_bytes = longest_label(engine) + 64};
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
  bool cut[kColumns];  // did not fit and lost its end
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
    const size_t label_bytes = header->label_bytes;
    if (column != kLabel && header->at[kLabel] > index && capacity + label_bytes > free_bytes) {
      capacity = free_bytes > label_bytes ? free_bytes - label_bytes : 0;
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
        row->cut[column] = true;
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
  for (int32_t i = 0; i < embbert_engine_label_count(engine); i++) {
    const char* const name = embbert_engine_label(engine, i, NULL);
    if (strlen(name) == length && memcmp(name, text, length) == 0) return i;
  }
  return -1;
}

// A decimal number such as -1.25 or 3e-5; false when it is none.
static bool parse_score(const char* text, size_t length, double* score) {
  size_t i = 0;
  const bool negative = length > 0 && text[0] == '-';
  if (negative || (length > 0 && text[0] == '+')) i++;
  double value = 0;
  int exponent = 0;
  bool digits = false;
  bool point = false;
  for (; i < length && text[i] != 'e' && text[i] != 'E'; i++) {
    if (text[i] == '.' && !point) {
      point = true;
    } else if (text[i] >= '0' && text[i] <= '9') {
      value = value * 10 + (text[i] - '0');
      exponent -= point;
      digits = true;
    } else {
      return false;
    }
  }
  if (i < length) {
    const bool down = ++i < length && text[i] == '-';
    if (down || (i < length && text[i] == '+')) i++;
    int given = 0;
    if (i == length) return false;
    for (; i < length; i++) {
      if (text[i] < '0' || text[i] > '9' || given > 1000) return false;
      given = given * 10 + (text[i] - '0');
    }
    exponent += down ? -given : given;
  }
  double power = 1;
  for (int step = exponent < 0 ? -exponent : exponent; step > 0; step--) power *= 10;
  *score = exponent < 0 ? value / power : value * power;
  if (negative) *score = -*score;
  return digits && *score > -1e300 && *score < 1e300;
}

// Whether a text alone has as many tokens as the model takes of a row, or more.
static bool fills_model(embbert_engine_t* engine, const char* text, size_t length) {
  const uint16_t* ids;
  size_t count;
  return embbert_engine_tokenize(engine, text, length, NULL, 0, &ids, &count) == kEmbbertOk &&
         count == (size_t)engine->max_tokens;
}

// Whether what a cut row lost may have changed its ids. Of a single text it lay behind the last
// token that counts. Of a pair, the number of tokens of either text decides how both are cut, but
// two texts that are each longer than the model takes get half of it, and only of an odd number of
// tokens the longer one gets the spare.
static bool cut_matters(embbert_engine_t* engine, const row_t* row) {
  const bool pair = engine->config.pair != 0;
  bool fills[2] = {false, false};
  for (int i = kText; i <= (pair ? kPair : kText); i++) {
    fills[i] = fills_model(engine, row->field[i], row->length[i]);
    if (row->cut[i] && !fills[i]) return true;
  }
  return fills[kText] && fills[kPair] && engine->max_tokens % 2 != 0;
}

typedef struct {
  metrics_t metrics;
  uint64_t tokens;
  uint64_t cost;  // in the platform's unit
  uint64_t most_cost;
} totals_t;

static const char* evaluate_row(app_t* app, const row_t* row, int32_t logits_file,
                                totals_t* totals) {
  embbert_engine_t* const engine = &app->engine;
  const bool regression = engine->config.task == kEmbbertRegression;
  double score = 0;
  int32_t label = 0;
  if (regression) {
    if (!parse_score(row->field[kLabel], row->length[kLabel], &score)) {
      return "the label is not a number";
    }
  } else {
    label = find_label(engine, row->field[kLabel], row->length[kLabel]);
    if (label < 0) return "the label is not among the model's";
  }
  if ((row->cut[kText] || row->cut[kPair]) && cut_matters(engine, row)) return kTooLong;
  embbert_result_t result;
  const char* const pair = engine->config.pair != 0 ? row->field[kPair] : NULL;
  const uint64_t before = platform_counter();
  const int status = embbert_engine_classify(engine, row->field[kText], row->length[kText], pair,
                                             row->length[kPair], &result);
  const uint64_t spent = platform_cost_since(before);
  if (status != kEmbbertOk) return embbert_engine_message(status);
  if (regression) {
    metrics_add_score(&totals->metrics, &result, score);
  } else {
    metrics_add_class(&totals->metrics, &result, label);
  }
  totals->tokens += (uint64_t)result.tokens;
  totals->cost += spent;
  if (spent > totals->most_cost) totals->most_cost = spent;
  if (logits_file >= 0 &&
      platform_write_file(logits_file, result.logits, (size_t)engine->config.labels) != 0) {
    return "the logits cannot be written";
  }
  return NULL;
}

// A line for people.
static void print_sentence(const totals_t* totals) {
  const metrics_t* const metrics = &totals->metrics;
  print_text("rows ");
  print_number(metrics->rows);
  if (metrics->regression) {
    print_text(", Pearson ");
    print_fixed((metrics_pearson(metrics) + (metrics_pearson(metrics) < 0 ? -50 : 50)) / 100, 4);
    print_text(", mean absolute error ");
    print_fixed((int64_t)metrics_mean_absolute_error(metrics), 3);
  } else {
    print_text(", accuracy ");
    print_fixed((metrics_accuracy(metrics) + 50) / 100, 2);
    print_text(" %, macro F1 ");
    print_fixed((metrics_macro_f1(metrics) + 50) / 100, 2);
    print_text(" %, unsure ");
    print_number(metrics->unsure);
  }
  print_text(", tokens a row ");
  print_fixed((int64_t)(10 * totals->tokens / metrics->rows), 1);
  if (platform_cost_unit() != NULL) {
    print_text(", ");
    print_text(platform_cost_unit());
    print_text(" a row ");
    print_grouped(totals->cost / metrics->rows);
    print_text(", at most ");
    print_grouped(totals->most_cost);
  }
  print_text("\n");
}

static void print_member(const char* name, int64_t value, int decimals) {
  print_text(", ");
  print_json_string(name);
  print_text(": ");
  print_fixed(value, decimals);
}

// A line of JSON for programs.
static void print_json(const totals_t* totals) {
  const metrics_t* const metrics = &totals->metrics;
  print_text("{\"target\": ");
  print_json_string(platform_name());
  print_text(", \"implementation\": ");
  print_json_string(embbert_implementation);
  print_member("count", metrics->rows, 0);
  if (metrics->regression) {
    print_member("pearson", metrics_pearson(metrics), 6);
    print_member("mean_absolute_error", (int64_t)metrics_mean_absolute_error(metrics), 3);
  } else {
    print_member("correct", metrics->right, 0);
    print_member("accuracy", metrics_accuracy(metrics), 6);
    print_member("macro_f1", metrics_macro_f1(metrics), 6);
    print_member("unsure", metrics->unsure, 0);
  }
  print_member("tokens", (int64_t)totals->tokens, 0);
  const char* const unit = platform_cost_unit();
  print_member(unit != NULL ? unit : "instructions", (int64_t)totals->cost, 0);
  print_text("}\n");
}

// Classifies every row of a CSV file; the second word is where their int8 logits go, or nothing.
int command_eval(app_t* app, char* words) {
  static char path[512];
  static char logits_path[512];
  if (!app_keep_path(app_next_word(&words), path, sizeof(path)) ||
      !app_keep_path(app_next_word(&words), logits_path, sizeof(logits_path))) {
    return app_fail("eval", "a path is too long");
  }
  if (embbert_engine_label_count(&app->engine) == 0) {
    return app_fail("eval",
                    "an encoder that has learnt no labels; give LABELS=FILE, saved by :save");
  }
  static csv_reader_t csv;
  const int32_t file = platform_open_read(path);
  if (file < 0) return app_fail(path, "cannot be opened");
  int32_t logits_file = -1;
  if (logits_path[0] != '\0') {
    logits_file = platform_open_write(logits_path);
    if (logits_file < 0) return app_fail(logits_path, "cannot be written");
  }
  int32_t handle = file;
  csv_reader_init(&csv, read_file, &handle);
  header_t header;
  if (read_header(&csv, &app->engine, &header) != kCsvField || header.at[kText] < 0 ||
      header.at[kLabel] < 0 || (app->engine.config.pair != 0 && header.at[kPair] < 0)) {
    return fail_at(path, 1,
                   app->engine.config.pair != 0 ? "expected the header text,text_pair,label"
                                                : "expected the header text,label");
  }
  static totals_t totals;
  totals = (totals_t){0};
  metrics_begin(&totals.metrics, app->engine.config.task == kEmbbertRegression,
                embbert_engine_label_count(&app->engine), app->class_counts);
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
  if (totals.metrics.rows == 0) return app_fail(path, "no rows after the header");
  print_sentence(&totals);
  print_json(&totals);
  return 0;
}
