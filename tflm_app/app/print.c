#include "print.h"

#include <stdbool.h>
#include <string.h>

#include "../boards/platform.h"

static char line[128];
static size_t line_length;

void print_flush(void) {
  if (line_length > 0) platform_write(line, line_length);
  line_length = 0;
}

void print_bytes(const char* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    line[line_length++] = bytes[i];
    if (bytes[i] == '\n' || line_length == sizeof(line)) print_flush();
  }
}

void print_text(const char* text) { print_bytes(text, strlen(text)); }

// Longest: 20 digits with a sign, a point and 6 commas.
typedef struct {
  char text[32];
  size_t start;
} digits_t;

// value / 10^decimals, with a comma before every third digit when `grouped`.
static digits_t digits_of(uint64_t value, int decimals, bool negative, bool grouped) {
  digits_t digits = {.start = sizeof(digits.text)};
  int written = 0;
  do {
    if (written == decimals && decimals > 0) digits.text[--digits.start] = '.';
    if (grouped && written > 0 && written % 3 == 0) digits.text[--digits.start] = ',';
    digits.text[--digits.start] = (char)('0' + value % 10);
    value /= 10;
    written++;
  } while (value > 0 || written <= decimals);
  if (negative) digits.text[--digits.start] = '-';
  return digits;
}

static void print_digits(const digits_t* digits, int width) {
  const size_t count = sizeof(digits->text) - digits->start;
  for (int i = (int)count; i < width; i++) print_bytes(" ", 1);
  print_bytes(digits->text + digits->start, count);
}

void print_number(uint64_t value) { print_column(value, 0); }

void print_fixed(int64_t value, int decimals) { print_fixed_column(value, decimals, 0); }

void print_grouped(uint64_t value) {
  const digits_t digits = digits_of(value, 0, false, true);
  print_digits(&digits, 0);
}

void print_column(uint64_t value, int width) {
  const digits_t digits = digits_of(value, 0, false, false);
  print_digits(&digits, width);
}

void print_fixed_column(int64_t value, int decimals, int width) {
  const uint64_t magnitude = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
  const digits_t digits = digits_of(magnitude, decimals, value < 0, false);
  print_digits(&digits, width);
}

void print_text_column(const char* text, int width) {
  const size_t count = strlen(text);
  print_bytes(text, count);
  for (int i = (int)count; i < width; i++) print_bytes(" ", 1);
}

void print_json_string(const char* text) {
  static const char kHex[] = "0123456789abcdef";
  print_bytes("\"", 1);
  for (; *text != '\0'; text++) {
    const unsigned char byte = (unsigned char)*text;
    if (byte == '"' || byte == '\\') print_bytes("\\", 1);
    if (byte < 0x20) {
      print_text("\\u00");
      print_bytes(&kHex[byte >> 4], 1);
      print_bytes(&kHex[byte & 15], 1);
    } else {
      print_bytes(text, 1);
    }
  }
  print_bytes("\"", 1);
}
