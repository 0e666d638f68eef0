// Text output without printf: newlib-nano's would cost more flash than this whole application.
// Collected into lines; print_flush() sends what is left.

#ifndef EMBBERT_TFLM_APP_APP_PRINT_H_
#define EMBBERT_TFLM_APP_APP_PRINT_H_

#include <stddef.h>
#include <stdint.h>

void print_bytes(const char* bytes, size_t count);
void print_text(const char* text);

// A number in decimal.
void print_number(uint64_t value);

// value / 10^decimals with that many digits after the point, 0 <= decimals <= 9.
void print_fixed(int64_t value, int decimals);

// The same with commas between thousands.
void print_grouped(uint64_t value);

// Right-aligned in `width` columns: print_number and print_fixed.
void print_column(uint64_t value, int width);
void print_fixed_column(int64_t value, int decimals, int width);

// Text, left-aligned in `width` columns.
void print_text_column(const char* text, int width);

// Text as a JSON string, quotes included.
void print_json_string(const char* text);

void print_flush(void);

#endif  // EMBBERT_TFLM_APP_APP_PRINT_H_
