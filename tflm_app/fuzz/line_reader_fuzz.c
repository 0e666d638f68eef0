// libFuzzer target: any bytes, any buffer size. The first byte is the size of the buffer.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../app/line_reader.h"

static void check(const line_reader_t* reader, line_event_t event, size_t pushed) {
  if (reader->length >= reader->capacity || reader->length > pushed) abort();
  if (event != kLineReady) return;
  if (reader->buffer[reader->length] != '\0') abort();
  if (strlen(reader->buffer) != reader->length) abort();
  for (size_t i = 0; i < reader->length; i++) {
    const unsigned char byte = (unsigned char)reader->buffer[i];
    if ((byte < 0x20 && byte != '\t') || byte == 0x7F) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t capacity = data[0] == 0 ? 1 : data[0];
  char* const buffer = malloc(capacity);  // of just that size, so that an overrun is seen
  line_reader_t reader;
  line_reader_init(&reader, buffer, capacity);
  for (size_t i = 1; i < size; i++) check(&reader, line_reader_push(&reader, data[i]), i);
  check(&reader, line_reader_push(&reader, -1), size);
  // After the end there is nothing left.
  if (reader.finished && line_reader_push(&reader, -1) != kLineEnd) abort();
  free(buffer);
  return 0;
}
