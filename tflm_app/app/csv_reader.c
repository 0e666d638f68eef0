#include "csv_reader.h"

enum { kEndOfFile = -1, kSourceFailed = -2 };

// The next byte without taking it.
static int peek(csv_reader_t* reader) {
  if (reader->used == reader->filled) {
    reader->used = 0;
    reader->filled = reader->source(reader->context, reader->block, sizeof(reader->block));
    if (reader->filled <= 0) {
      const bool failed = reader->filled < 0;
      reader->filled = 0;
      return failed ? kSourceFailed : kEndOfFile;
    }
  }
  return reader->block[reader->used];
}

static int take(csv_reader_t* reader) {
  const int byte = peek(reader);
  if (byte >= 0) reader->used++;
  if (byte == '\n') reader->line++;
  return byte;
}

void csv_reader_init(csv_reader_t* reader, csv_source_t source, void* context) {
  *reader = (csv_reader_t){.source = source, .context = context, .line = 1, .row_begins = true};
  // EF BB BF. A file that starts with only a part of it is no UTF-8 text; that part is dropped.
  static const uint8_t kMark[3] = {0xEF, 0xBB, 0xBF};
  for (int i = 0; i < 3 && peek(reader) == kMark[i]; i++) reader->used++;
}

// A field ends at a comma, at the end of the line or of the file. True when `byte` ends it, with
// `last` set; a CR must be followed by LF or the end of the file.
static bool ends_field(csv_reader_t* reader, int byte, csv_status_t* status) {
  *status = kCsvField;
  if (byte == ',') return true;
  if (byte == '\r') {
    const int next = peek(reader);
    if (next == '\n') {
      take(reader);
    } else if (next != kEndOfFile) {
      *status = kCsvMalformed;
    }
  } else if (byte != '\n' && byte != kEndOfFile) {
    return false;
  }
  reader->last = true;
  reader->row_begins = true;
  return true;
}

static void append(csv_reader_t* reader, char* buffer, size_t capacity, int byte) {
  if (reader->length < capacity) buffer[reader->length] = (char)byte;
  reader->length++;
}

csv_status_t csv_reader_next(csv_reader_t* reader, char* buffer, size_t capacity) {
  reader->length = 0;
  reader->last = false;
  reader->begins = reader->line;
  if (reader->row_begins) {
    while (peek(reader) == '\n' || peek(reader) == '\r') take(reader);
    if (peek(reader) == kEndOfFile) return kCsvEnd;
    reader->row_begins = false;
  }
  reader->begins = reader->line;
  csv_status_t status;
  int byte = take(reader);
  if (byte != '"') {
    for (;; byte = take(reader)) {
      if (byte == kSourceFailed) return kCsvFailed;
      if (ends_field(reader, byte, &status)) return status;
      append(reader, buffer, capacity, byte);
    }
  }
  for (;;) {
    byte = take(reader);
    if (byte == '"') {
      byte = take(reader);
      if (byte != '"') {
        if (byte == kSourceFailed) return kCsvFailed;
        return ends_field(reader, byte, &status) ? status : kCsvMalformed;
      }
    } else if (byte < 0) {
      return byte == kSourceFailed ? kCsvFailed : kCsvMalformed;  // the quotes never close
    }
    append(reader, buffer, capacity, byte);
  }
}
