// Bytes to lines, for a prompt that a person or anything else types at.
//
// No dependency, no allocation: the caller owns the buffer. A line ends with CR, LF or CR LF.
// Backspace and DEL take back a character (a whole UTF-8 sequence), Ctrl-U the line. A line with
// any other control character but TAB is refused as binary, a line that outgrows the buffer as too
// long; both are swallowed to their end, so that the next line starts clean.

#ifndef EMBBERT_TFLM_APP_APP_LINE_READER_H_
#define EMBBERT_TFLM_APP_APP_LINE_READER_H_

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  kLineMore,     // the line goes on
  kLineReady,    // buffer[0..length) is the line, zero terminated
  kLineTooLong,  // a line without its end was dropped
  kLineBinary,   // a line with control characters was dropped
  kLineEnd,      // end of input (Ctrl-D on an empty line, or a byte of -1), nothing before it
} line_event_t;

// Read `buffer` and `length` after kLineReady; until the next push.
typedef struct {
  char* buffer;
  size_t capacity;  // including the terminating zero
  size_t length;
  size_t erased;  // characters that the last push took back, for the echo
  bool too_long;
  bool binary;
  bool after_cr;
  bool finished;  // the line was handed out; the next byte begins another
} line_reader_t;

// `capacity` is at least 1.
void line_reader_init(line_reader_t* reader, char* buffer, size_t capacity);

// Takes the next byte, 0..255, or -1 at the end of the input.
line_event_t line_reader_push(line_reader_t* reader, int byte);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_TFLM_APP_APP_LINE_READER_H_
