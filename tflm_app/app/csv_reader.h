// CSV, one field at a time, from a file on the debugger's machine: as Python's csv module reads it
// with strict=True, so that the device evaluates exactly the rows that training saw.
//
// Fields are separated by commas and may be in double quotes, a quote within doubled; rows end with
// LF or CR LF; a byte order mark at the start is passed over. Memory is the caller's buffers.

#ifndef EMBBERT_TFLM_APP_APP_CSV_READER_H_
#define EMBBERT_TFLM_APP_APP_CSV_READER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Reads up to `capacity` bytes into `buffer` and returns how many; 0 at the end, negative on error.
typedef int32_t (*csv_source_t)(void* context, void* buffer, size_t capacity);

typedef enum {
  kCsvField,      // a field; `last` says whether it ends its row
  kCsvEnd,        // no more rows
  kCsvMalformed,  // not CSV, at `line`
  kCsvFailed,     // the source failed
} csv_status_t;

typedef struct {
  csv_source_t source;
  void* context;
  uint32_t line;    // number of the line that is being read, from 1
  uint32_t begins;  // number of the line that the field just read begins at
  bool last;        // the field just read is its row's last
  size_t length;    // of the field, all of it
  bool row_begins;  // private from here
  int32_t filled;
  int32_t used;
  uint8_t block[256];
} csv_reader_t;

void csv_reader_init(csv_reader_t* reader, csv_source_t source, void* context);

// Reads the next field into buffer[0..capacity); what does not fit is counted in `length` but
// dropped. Blank lines between rows are passed over.
csv_status_t csv_reader_next(csv_reader_t* reader, char* buffer, size_t capacity);

#endif  // EMBBERT_TFLM_APP_APP_CSV_READER_H_
