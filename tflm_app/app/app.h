// What the commands of the application share: its state, and the table of commands.

#ifndef EMBBERT_TFLM_APP_APP_APP_H_
#define EMBBERT_TFLM_APP_APP_APP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embbert.h"
#include "metrics.h"

// Bytes of the one text buffer: command line, typed line, or the texts of a CSV row. The Makefile
// sets it by target.
#ifndef TEXT_BYTES
#define TEXT_BYTES 65536
#endif

// Longest typed line, its terminating zero included.
#define PROMPT_LINE_BYTES (TEXT_BYTES < 2048 ? TEXT_BYTES : 2048)

struct command;

typedef struct app {
  embbert_engine_t engine;
  const struct command* commands;  // ends with one without a name
  const char* build;               // what the program was made from
  class_counts_t* class_counts;    // (labels of the model, or that it may learn), for eval
  void* labels;                    // memory for an encoder's labels
  size_t labels_bytes;
  // app_label_line of an encoder; NULL of other models, whose programs are linked without it.
  bool (*label_line)(struct app* app, char* line, size_t length);
  _Alignas(8) char text[TEXT_BYTES];
} app_t;

// A command: `words` are the lines behind its name, which lie in app->text. Returns the program's
// exit status.
typedef struct command {
  const char* name;
  int (*run)(app_t* app, char* words);
} command_t;

// The commands, each in the file of its name.
int command_run(app_t* app, char* words);
int command_tokenize(app_t* app, char* words);
int command_prompt(app_t* app, char* words);
int command_bench(app_t* app, char* words);
int command_eval(app_t* app, char* words);
int command_info(app_t* app, char* words);
int command_measure(app_t* app, char* words);

// Gives an encoder its memory for labels, and those that the file at `path` holds ("": none): what
// an earlier session saved there, if it did. Returns 0, or 1 when the file is there and unusable.
int app_begin_labels(app_t* app, const char* path);

// Answers a line of the prompt that begins with :learn, :forget, :labels or :save; false when it is
// another one. `line` (length) is in the text buffer.
bool app_label_line(app_t* app, char* line, size_t length);

// The command of that name, NULL when there is none.
const command_t* app_find_command(const app_t* app, const char* name, size_t length);

// Prints "embbert: <what>: <message>" as one line; returns 1, the exit status of a failure.
int app_fail(const char* what, const char* message);

// Cuts a line off `words`: returns it, zero terminated, and moves `words` behind it.
char* app_next_word(char** words);

// Copies a path out of the text buffer, which its file is about to fill. False when it is too long.
bool app_keep_path(const char* path, char* copy, size_t capacity);

bool app_is_blank(char c);

// Finds "|||" between two texts. Returns false without one; else the first text's length, and the
// second text, all without blanks around.
bool app_split_pair(const char* text, size_t length, size_t* first, const char** second,
                    size_t* second_length);

// Shortens a text of which only the first `kept` bytes are at hand to its last whole word, so that
// each token of what remains is also a token of the whole.
size_t app_whole_words(const char* text, size_t kept);

// Prints a result: label and confidence, or the score of a regression.
void app_print_answer(const app_t* app, const embbert_result_t* result);

#endif  // EMBBERT_TFLM_APP_APP_APP_H_
