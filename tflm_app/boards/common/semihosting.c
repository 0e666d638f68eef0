#include "semihosting.h"

// Operation numbers of the specification.
enum {
  kSysOpen = 0x01,
  kSysClose = 0x02,
  kSysWrite = 0x05,
  kSysRead = 0x06,
  kSysRemove = 0x0E,
  kSysRename = 0x0F,
  kSysErrno = 0x13,
  kSysGetCommandLine = 0x15,
  kSysExit = 0x18,
  kSysExitExtended = 0x20,
};

// Reasons of SYS_EXIT.
static const uint32_t kStoppedApplicationExit = 0x20026u;
static const uint32_t kStoppedRunTimeError = 0x20023u;

static int32_t call(uint32_t operation, const void* argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void* r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory", "cc");
  return (int32_t)r0;
}

bool semihosting_present(void) {
  static enum { kUnknown, kAbsent, kPresent } state = kUnknown;
  if (state == kUnknown) {
    // SYS_ERRNO takes nothing, changes nothing and never answers -1 before a call has failed.
    state = call(kSysErrno, NULL) == -1 ? kAbsent : kPresent;
  }
  return state == kPresent;
}

static size_t length_of(const char* path) {
  size_t length = 0;
  while (path[length] != '\0') length++;
  return length;
}

int32_t semihosting_open(const char* path, int32_t mode) {
  const uintptr_t block[3] = {(uintptr_t)path, (uintptr_t)mode, length_of(path)};
  return call(kSysOpen, block);
}

int32_t semihosting_close(int32_t handle) {
  const uintptr_t block[1] = {(uintptr_t)handle};
  return call(kSysClose, block);
}

int32_t semihosting_read(int32_t handle, void* buffer, size_t count) {
  const uintptr_t block[3] = {(uintptr_t)handle, (uintptr_t)buffer, count};
  const int32_t not_read = call(kSysRead, block);  // 0: all read; count: end of file
  if (not_read < 0 || (size_t)not_read > count) return -1;
  return (int32_t)(count - (size_t)not_read);
}

int32_t semihosting_write(int32_t handle, const void* bytes, size_t count) {
  const uintptr_t block[3] = {(uintptr_t)handle, (uintptr_t)bytes, count};
  return call(kSysWrite, block) == 0 ? 0 : -1;
}

int32_t semihosting_rename(const char* from, const char* to) {
  const uintptr_t block[4] = {(uintptr_t)from, length_of(from), (uintptr_t)to, length_of(to)};
  return call(kSysRename, block);
}

int32_t semihosting_remove(const char* path) {
  const uintptr_t block[2] = {(uintptr_t)path, length_of(path)};
  return call(kSysRemove, block);
}

int32_t semihosting_command_line(char* buffer, size_t capacity) {
  uintptr_t block[2] = {(uintptr_t)buffer, capacity};
  if (capacity == 0 || call(kSysGetCommandLine, block) != 0 || block[1] >= capacity) return -1;
  buffer[block[1]] = '\0';
  return (int32_t)block[1];
}

void semihosting_exit(int32_t status) {
  const uintptr_t block[2] = {kStoppedApplicationExit, (uintptr_t)status};
  call(kSysExitExtended, block);
  // A debugger older than SYS_EXIT_EXTENDED knows success and failure only.
  call(kSysExit,
       (const void*)(uintptr_t)(status == 0 ? kStoppedApplicationExit : kStoppedRunTimeError));
}
