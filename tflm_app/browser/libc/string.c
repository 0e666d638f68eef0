#include <string.h>

void* memcpy(void* restrict to, const void* restrict from, size_t count) {
  unsigned char* const out = to;
  const unsigned char* const in = from;
  for (size_t i = 0; i < count; i++) out[i] = in[i];
  return to;
}

void* memmove(void* to, const void* from, size_t count) {
  unsigned char* const out = to;
  const unsigned char* const in = from;
  for (size_t i = 0; out < in && i < count; i++) out[i] = in[i];
  for (size_t i = count; out > in && i > 0; i--) out[i - 1] = in[i - 1];
  return to;
}

void* memset(void* to, int value, size_t count) {
  unsigned char* const out = to;
  for (size_t i = 0; i < count; i++) out[i] = (unsigned char)value;
  return to;
}

int memcmp(const void* a, const void* b, size_t count) {
  const unsigned char* const left = a;
  const unsigned char* const right = b;
  for (size_t i = 0; i < count; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

size_t strlen(const char* text) {
  size_t length = 0;
  while (text[length] != '\0') length++;
  return length;
}
