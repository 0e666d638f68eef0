// platform.h for a POSIX process, so that the firmware's application also runs natively.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../platform.h"

int app_main(void);

static int argument_count;
static char** arguments;

int main(int argc, char** argv) {
  argument_count = argc;
  arguments = argv;
  return app_main();
}

int32_t platform_command(char* buffer, size_t capacity) {
  size_t length = 0;
  for (int i = 1; i < argument_count; i++) {
    const size_t word = strlen(arguments[i]);
    if (length + word + 2 > capacity) return -1;
    if (i > 1) buffer[length++] = '\n';
    memcpy(buffer + length, arguments[i], word);
    length += word;
  }
  buffer[length] = '\0';
  return (int32_t)length;
}

// All of it, over interrupted and partial writes.
static int write_all(int descriptor, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = write(descriptor, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return -1;
    bytes += written;
    count -= (size_t)written;
  }
  return 0;
}

void platform_write(const char* bytes, size_t count) {
  // Nobody is left to tell when the reader of the standard output has gone.
  if (write_all(STDOUT_FILENO, bytes, count) != 0) exit(1);
}

int platform_read_byte(void) {
  static unsigned char buffer[4096];
  static ssize_t filled;
  static ssize_t used;
  if (used == filled) {
    used = 0;
    do {
      filled = read(STDIN_FILENO, buffer, sizeof(buffer));
    } while (filled < 0 && errno == EINTR);
    if (filled <= 0) {
      filled = 0;
      return -1;
    }
  }
  return buffer[used++];
}

void platform_use_uart(bool uart) { (void)uart; }

bool platform_wants_echo(void) { return false; }

int32_t platform_open_read(const char* path) { return open(path, O_RDONLY); }

int32_t platform_open_write(const char* path) {
  return open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
}

int32_t platform_read(int32_t handle, void* buffer, size_t capacity) {
  ssize_t count;
  do {
    count = read(handle, buffer, capacity);
  } while (count < 0 && errno == EINTR);
  return (int32_t)count;
}

int32_t platform_write_file(int32_t handle, const void* bytes, size_t count) {
  return write_all(handle, bytes, count);
}

int32_t platform_close(int32_t handle) { return close(handle); }

int32_t platform_rename(const char* from, const char* to) { return rename(from, to); }

int32_t platform_remove(const char* path) { return unlink(path); }

uint32_t platform_lost_bytes(void) { return 0; }

const char* platform_cost_unit(void) { return NULL; }

uint64_t platform_counter(void) { return 0; }

uint64_t platform_cost_since(uint64_t counter) { return counter; }

uint32_t platform_ticks(void) { return 0; }

uint64_t platform_ticks_to_cost(uint64_t ticks) { return ticks; }

uint32_t platform_stack_used(void) { return 0; }

uint32_t platform_stack_size(void) { return 0; }

uint32_t platform_static_ram(void) { return 0; }

const char* platform_name(void) { return "host"; }

_Noreturn void platform_exit(int status) { exit(status); }
