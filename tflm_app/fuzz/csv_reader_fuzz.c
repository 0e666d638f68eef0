// libFuzzer target: any file, handed over in pieces of any size. The first byte is the size of the
// pieces, the second that of the field buffer. What is read must not depend on either.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../app/csv_reader.h"

typedef struct {
  const uint8_t* data;
  size_t size;
  size_t piece;
} file_t;

static int32_t read_piece(void* context, void* buffer, size_t capacity) {
  file_t* const file = context;
  size_t count = file->size < file->piece ? file->size : file->piece;
  if (count > capacity) count = capacity;
  memcpy(buffer, file->data, count);
  file->data += count;
  file->size -= count;
  return (int32_t)count;
}

// One number of everything that the caller of the reader can see, and of the first byte of fields.
static uint64_t digest(const uint8_t* data, size_t size, size_t piece, size_t capacity) {
  file_t file = {data, size, piece};
  csv_reader_t reader;
  csv_reader_init(&reader, read_piece, &file);
  char* const buffer = malloc(capacity);
  uint64_t sum = 14695981039346656037u;
  for (size_t fields = 0;; fields++) {
    if (fields > size + 1) abort();  // it does not come to an end
    const csv_status_t status = csv_reader_next(&reader, buffer, capacity);
    const uint64_t seen[] = {(uint64_t)status, reader.line, reader.last, reader.length,
                             reader.length > 0 ? (uint64_t)(uint8_t)buffer[0] : 0u};
    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
      sum = (sum ^ seen[i]) * 1099511628211u;
    }
    if (status != kCsvField) break;
    if (reader.length > size) abort();
  }
  free(buffer);
  return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece = 1u + data[0];
  const size_t capacity = 1u + data[1];
  const uint64_t first = digest(data + 2, size - 2, piece, capacity);
  if (digest(data + 2, size - 2, 4096, 4096) != first) abort();
  return 0;
}
