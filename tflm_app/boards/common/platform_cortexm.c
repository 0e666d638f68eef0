// platform.h for a bare-metal Cortex-M: semihosting, and the board's UART and counter.

#include <stddef.h>

#include "../platform.h"
#include "board.h"
#include "counter.h"
#include "memory.h"
#include "semihosting.h"
#include "uart.h"

void platform_start(void);
_Noreturn void platform_fault(const char* what, const uint32_t* pc);

// Handles of the debugger's console, -1 while not open.
static int32_t console_in = -1;
static int32_t console_out = -1;
static bool use_uart;
static bool uart_is_open;

int32_t platform_command(char* buffer, size_t capacity) {
  if (capacity == 0) return -1;
  buffer[0] = '\0';
  if (!semihosting_present()) return 0;
  const int32_t length = semihosting_command_line(buffer, capacity);
  if (length < 0) return -1;
  // The first word is the program's name.
  int32_t start = 0;
  while (start < length && buffer[start] != ' ') start++;
  if (start < length) start++;
  for (int32_t i = start; i <= length; i++) buffer[i - start] = buffer[i];
  return length - start;
}

static bool select_uart(void) {
  if (!use_uart && semihosting_present()) return false;
  if (!uart_is_open) {
    uart_open();
    uart_is_open = true;
  }
  return true;
}

void platform_use_uart(bool uart) { use_uart = uart; }

bool platform_wants_echo(void) { return select_uart(); }

void platform_write(const char* bytes, size_t count) {
  if (select_uart()) {
    // A terminal on a wire wants CR LF.
    for (size_t i = 0; i < count; i++) {
      if (bytes[i] == '\n') uart_write("\r", 1);
      uart_write(&bytes[i], 1);
    }
    return;
  }
  if (console_out < 0) console_out = semihosting_open(":tt", kSemihostingWriteBinary);
  (void)semihosting_write(console_out, bytes, count);
}

int platform_read_byte(void) {
  if (select_uart()) return uart_read_byte();
  if (console_in < 0) console_in = semihosting_open(":tt", kSemihostingReadBinary);
  uint8_t byte;
  return semihosting_read(console_in, &byte, 1) == 1 ? byte : -1;
}

int32_t platform_open_read(const char* path) {
  return semihosting_present() ? semihosting_open(path, kSemihostingReadBinary) : -1;
}

int32_t platform_open_write(const char* path) {
  return semihosting_present() ? semihosting_open(path, kSemihostingWriteBinary) : -1;
}

int32_t platform_read(int32_t handle, void* buffer, size_t capacity) {
  return semihosting_read(handle, buffer, capacity);
}

int32_t platform_write_file(int32_t handle, const void* bytes, size_t count) {
  return semihosting_write(handle, bytes, count);
}

int32_t platform_close(int32_t handle) { return semihosting_close(handle) == 0 ? 0 : -1; }

int32_t platform_rename(const char* from, const char* to) {
  return semihosting_rename(from, to) == 0 ? 0 : -1;
}

int32_t platform_remove(const char* path) { return semihosting_remove(path) == 0 ? 0 : -1; }

// Before main(). Semihosting is looked for now: when there is none, the look faults, and a fault's
// handler could not.
void platform_start(void) {
  (void)semihosting_present();
  counter_open();
}

const char* platform_cost_unit(void) { return counter_unit(); }

uint64_t platform_counter(void) { return counter_now(); }

uint64_t platform_cost_since(uint64_t counter) { return counter_amount(counter_now() - counter); }

uint32_t platform_ticks(void) { return counter_ticks(); }

uint64_t platform_ticks_to_cost(uint64_t ticks) { return counter_amount(ticks); }

uint32_t platform_lost_bytes(void) { return uart_overruns(); }

uint32_t platform_stack_used(void) {
  const uint32_t* word = __stack_limit;
  while (word < __stack_top && *word == STACK_PAINT) word++;
  return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)word);
}

uint32_t platform_stack_size(void) {
  return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)__stack_limit);
}

uint32_t platform_static_ram(void) {
  return (uint32_t)((uintptr_t)__bss_end - (uintptr_t)__bss_start + (uintptr_t)__data_end -
                    (uintptr_t)__data_start);
}

const char* platform_name(void) { return BOARD_NAME; }

_Noreturn void platform_exit(int status) {
  if (semihosting_present()) semihosting_exit(status);
  for (;;) __asm__ volatile("wfi");
}

// `pc` is where the processor has put the address of the instruction, or NULL.
_Noreturn void platform_fault(const char* what, const uint32_t* pc) {
  static const char kDigits[] = "0123456789abcdef";
  char address[] = " at 0x00000000";
  for (int i = 0; pc != NULL && i < 8; i++) address[6 + i] = kDigits[(*pc >> (28 - 4 * i)) & 0xFu];
  size_t length = 0;
  while (what[length] != '\0') length++;
  platform_write("embbert: ", 9);
  platform_write(what, length);
  if (pc != NULL) platform_write(address, sizeof(address) - 1);
  platform_write("\n", 1);
  platform_exit(1);
}
