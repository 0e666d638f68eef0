// What the firmware takes of the C library, for the one target that has none; libc.c defines it.

#ifndef EMBBERT_TFLM_APP_BROWSER_LIBC_STRING_H_
#define EMBBERT_TFLM_APP_BROWSER_LIBC_STRING_H_

#include <stddef.h>

void* memcpy(void* restrict to, const void* restrict from, size_t count);
void* memmove(void* to, const void* from, size_t count);
void* memset(void* to, int value, size_t count);
int memcmp(const void* a, const void* b, size_t count);
size_t strlen(const char* text);
char* strchr(const char* text, int wanted);

#endif  // EMBBERT_TFLM_APP_BROWSER_LIBC_STRING_H_
