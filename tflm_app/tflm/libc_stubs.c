// What TFLM makes newlib and libstdc++ ask of an operating system. There is none.

#include <stddef.h>
#include <string.h>

#include "../boards/platform.h"

void* _sbrk(ptrdiff_t increment);
_Noreturn void abort(void);
_Noreturn void __cxa_pure_virtual(void);
void embbert_tflm_halted(const char* what);
_Noreturn void __assert_func(const char* file, int line, const char* function, const char* what);

// vsnprintf, which TFLM formats its messages with, never needs the heap for TFLM's formats.
void* _sbrk(ptrdiff_t increment) {
  (void)increment;
  return (void*)-1;
}

// Without newlib's, which would raise a signal and wait.
_Noreturn void abort(void) {
  static const char kMessage[] = "embbert: aborted\n";
  platform_write(kMessage, sizeof(kMessage) - 1);
  platform_exit(1);
}

_Noreturn void __cxa_pure_virtual(void) { abort(); }

// One line where TFLM would loop for ever.
void embbert_tflm_halted(const char* what) {
  static const char kPrefix[] = "embbert: TFLM halted: ";
  platform_write(kPrefix, sizeof(kPrefix) - 1);
  platform_write(what, strlen(what));
  platform_write("\n", 1);
  platform_exit(1);
}

// flatbuffers' assertions, without newlib's printing to a stream.
_Noreturn void __assert_func(const char* file, int line, const char* function, const char* what) {
  (void)file;
  (void)line;
  (void)function;
  static const char kMessage[] = "embbert: assertion failed: ";
  platform_write(kMessage, sizeof(kMessage) - 1);
  platform_write(what, strlen(what));
  platform_write("\n", 1);
  platform_exit(1);
}
