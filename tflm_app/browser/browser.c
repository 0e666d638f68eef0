// The engine in a web page: the library's C, compiled to WebAssembly by converters/page/browser.py.
//
// The page writes the model image and the texts into this program's memory, calls the functions
// below, and reads the answer where they say that it lies. There is no C library and no heap: what
// the model needs is taken from the end of the memory once, at the start.

#include "../app/app.h"
#include "../app/print.h"
#include "../boards/platform.h"

#define EXPORT(name) __attribute__((export_name(name), used))

enum { kPageBytes = 65536, kAnswerBytes = 1024 };

// Where the linker has put the end of all that is declared.
extern uint8_t __heap_base;

static app_t app;
static embbert_result_t result;
static const uint16_t* ids;
static char answer[kAnswerBytes];
static size_t answer_length;
static uintptr_t taken;

// What app/print.c prints of a result; a label that is longer than there is room loses its end.
void platform_write(const char* bytes, size_t count) {
  for (size_t i = 0; i < count && answer_length + 1 < sizeof(answer); i++) {
    answer[answer_length++] = bytes[i];
  }
}

// Bytes for good, at a multiple of 16; NULL where the browser gives no more memory.
EXPORT("place") uint8_t* browser_place(size_t bytes) {
  if (taken == 0) taken = (uintptr_t)&__heap_base;
  const uintptr_t start = (taken + 15u) & ~(uintptr_t)15u;
  const uintptr_t held = (uintptr_t)__builtin_wasm_memory_size(0) * kPageBytes;
  if (bytes > held - start || start > held) {
    const size_t pages = (bytes + kPageBytes - 1) / kPageBytes;
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return NULL;
  }
  taken = start + bytes;
  return (uint8_t*)start;
}

// Opens the image of so many bytes that the page has written to what `place` gave; a status.
EXPORT("open") int browser_open(const uint8_t* image, size_t size) {
  const int status = embbert_engine_open(&app.engine, image, size, NULL, 0, NULL);
  if (status != kEmbbertMemory) return status;
  const size_t needed = app.engine.memory_needed;
  uint8_t* const memory = browser_place(needed);
  return memory == NULL ? kEmbbertMemory
                        : embbert_engine_open(&app.engine, image, size, memory, needed, NULL);
}

// Where the page writes the text, and the second one behind it; and how many bytes both may have.
EXPORT("text") char* browser_text(void) { return app.text; }
EXPORT("text_bytes") size_t browser_text_bytes(void) { return sizeof(app.text); }

// Classifies the first `length` bytes of the text, with the `pair_length` bytes behind them as the
// second text of a model of pairs; a status.
EXPORT("classify") int browser_classify(size_t length, size_t pair_length) {
  size_t count;
  answer_length = 0;
  if (length > sizeof(app.text) || pair_length > sizeof(app.text) - length) return kEmbbertArgument;
  const char* const pair = app.engine.config.pair != 0 ? app.text + length : NULL;
  int status =
      embbert_engine_tokenize(&app.engine, app.text, length, pair, pair_length, &ids, &count);
  if (status == kEmbbertOk) status = embbert_engine_infer(&app.engine, ids, count, &result);
  if (status != kEmbbertOk) return status;
  app_print_answer(&app, &result);
  print_flush();
  return status;
}

// Of the last answer: its words as the firmware's prompt has them, ended by a zero; token ids and
// logits, as many as the model has; whether it is sure.
EXPORT("answer") const char* browser_answer(void) {
  answer[answer_length] = '\0';
  return answer;
}
EXPORT("tokens") int32_t browser_tokens(void) { return result.tokens; }
EXPORT("ids") const uint16_t* browser_ids(void) { return ids; }
EXPORT("logits") const int8_t* browser_logits(void) { return result.logits; }
EXPORT("labels") int32_t browser_labels(void) { return app.engine.config.labels; }
EXPORT("sure") int browser_sure(void) { return result.sure; }

EXPORT("message") const char* browser_message(int status) { return embbert_engine_message(status); }
