// The application around the engine: one command a start, or a prompt.

#ifndef EMBBERT_TFLM_APP_APP_APP_H_
#define EMBBERT_TFLM_APP_APP_APP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embbert.h"

// Bytes of the one text buffer: command line, typed line, or the texts of a CSV row. The Makefile
// sets it by target.
#ifndef TEXT_BYTES
#define TEXT_BYTES 65536
#endif

// Longest typed line, its terminating zero included.
#define PROMPT_LINE_BYTES (TEXT_BYTES < 2048 ? TEXT_BYTES : 2048)

typedef struct {
  embbert_engine_t engine;
  _Alignas(8) char text[TEXT_BYTES];
} app_t;

// Reads the command, opens the model image and does what the command says; returns the program's
// exit status.
int app_main(void);

// Prints "embbert: <what>: <message>" as one line; returns 1, the exit status of a failure.
int app_fail(const char* what, const char* message);

// Finds "|||" between two texts. Returns false without one; else the first text's length, and the
// second text, all without blanks around.
bool app_split_pair(const char* text, size_t length, size_t* first, const char** second,
                    size_t* second_length);

// Shortens a text of which only the first `kept` bytes are at hand to its last whole word, so that
// each token of what remains is also a token of the whole.
size_t app_whole_words(const char* text, size_t kept);

// Prints a result: label and confidence, or the score of a regression.
void app_print_answer(const app_t* app, const embbert_result_t* result);

// Prints what is known of model, memory and build; then measured stack.
void app_print_info(const app_t* app);

// The commands; each returns the exit status.
int command_prompt(app_t* app);
int command_bench(app_t* app);
// Classifies every row of a CSV file; with `logits_path` not NULL writes their int8 logits there.
int command_eval(app_t* app, const char* path, const char* logits_path);

#endif  // EMBBERT_TFLM_APP_APP_APP_H_
