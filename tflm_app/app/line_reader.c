#include "line_reader.h"

enum { kCtrlD = 0x04, kBackspace = 0x08, kCtrlU = 0x15, kDelete = 0x7F };

void line_reader_init(line_reader_t* reader, char* buffer, size_t capacity) {
  *reader = (line_reader_t){.buffer = buffer, .capacity = capacity};
  buffer[0] = '\0';
}

static line_event_t finish(line_reader_t* reader) {
  reader->finished = true;
  reader->buffer[reader->length] = '\0';
  if (reader->too_long) return kLineTooLong;
  return reader->binary ? kLineBinary : kLineReady;
}

// Drops the last byte and what precedes it in the same UTF-8 sequence.
static void erase_character(line_reader_t* reader) {
  if (reader->length == 0) return;
  while (reader->length > 0) {
    const unsigned char last = (unsigned char)reader->buffer[--reader->length];
    if ((last & 0xC0u) != 0x80u) break;
  }
  reader->erased++;
}

line_event_t line_reader_push(line_reader_t* reader, int byte) {
  if (reader->finished) {
    reader->length = 0;
    reader->too_long = reader->binary = reader->finished = false;
  }
  reader->erased = 0;
  const bool after_cr = reader->after_cr;
  reader->after_cr = byte == '\r';
  const bool empty = reader->length == 0 && !reader->too_long && !reader->binary;

  if (byte < 0 || (byte == kCtrlD && empty)) return empty ? kLineEnd : finish(reader);
  if (byte == '\n' && after_cr) return kLineMore;  // the second half of CR LF
  if (byte == '\r' || byte == '\n') return finish(reader);
  if (byte == kBackspace || byte == kDelete) {
    erase_character(reader);
  } else if (byte == kCtrlU) {
    while (reader->length > 0) erase_character(reader);
    reader->too_long = reader->binary = false;
  } else if (byte < 0x20 && byte != '\t') {
    reader->binary = true;
  } else if (reader->length + 1 < reader->capacity) {
    reader->buffer[reader->length++] = (char)byte;
  } else {
    reader->too_long = true;
  }
  return kLineMore;
}
