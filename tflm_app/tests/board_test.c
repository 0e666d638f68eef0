// A program for tests/tflm_app/test_boards.py: what it does depends on its first word.

#include <stdbool.h>
#include <stdint.h>

#include "../boards/common/board_hooks.h"
#include "../boards/platform.h"

static char command[64];

static void print_number(uint64_t value) {
  char digits[21];
  size_t at = sizeof(digits);
  digits[--at] = '\n';
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  platform_write(digits + at, sizeof(digits) - at);
}

// Executes 2 * count + 1 instructions after the call: subs and bne, and the return.
__attribute__((naked, noinline)) static void loop(uint32_t count __attribute__((unused))) {
  __asm__ volatile(
      ".syntax unified\n"
      "1: subs r0, #1\n"
      "bne 1b\n"
      "bx lr\n");
}

static uint64_t cost(uint32_t count) {
  const uint64_t before = platform_counter();
  loop(count);
  return platform_cost_since(before);
}

__attribute__((noinline)) static uint32_t dig(uint32_t depth) {
  volatile uint32_t frame[16] = {depth};
  return depth == 0 ? 0 : dig(depth - 1) + frame[0];
}

static int constructed = 1;

__attribute__((constructor(200))) static void construct_first(void) { constructed *= 10; }
__attribute__((constructor(300))) static void construct_second(void) { constructed += 7; }

// Interrupts 28 and 29 belong to nobody on the boards of these tests.
enum { kInterrupt = 28 };
static volatile uint32_t interrupts;

bool board_interrupt(uint32_t number) {
  if (number != kInterrupt) return false;
  interrupts++;
  return true;
}

static void pend(uint32_t number) {
  *(volatile uint32_t*)(0xE000E100u + number / 32 * 4) = 1u << (number % 32);
  *(volatile uint32_t*)(0xE000E200u + number / 32 * 4) = 1u << (number % 32);
  __asm__ volatile("dsb\n isb" ::: "memory");
}

int main(void) {
  const int32_t length = platform_command(command, sizeof(command));
  switch (length > 0 ? command[0] : 'c') {
    case 'c':  // count: costs of loops of 2, 4, 6, 10 and 1000 instructions
      for (uint32_t count = 1; count <= 3; count++) print_number(cost(count));
      print_number(cost(5));
      print_number(cost(500));
      platform_exit(0);
    case 'l':  // long: 1,400,000,000 instructions more than the first of these two
      print_number(cost(1));
      print_number(cost(700000000));
      platform_exit(0);
    case 's':  // stack: its use before and after calls known to be deep
      print_number(platform_stack_used());
      dig(20);
      print_number(platform_stack_used());
      platform_exit(0);
    case 'e':  // exit with status 7
      platform_exit(7);
    case 'f':                                // fault
      *(volatile uint32_t*)0xE8000001u = 1;  // nothing is there on any board
      platform_exit(0);
    case 'o':  // overflow the stack far into nothing
      dig(100000000);
      platform_exit(0);
    case 'i':  // interrupts: one that the board serves, twice; then one that nobody does
      pend(kInterrupt);
      pend(kInterrupt);
      print_number(interrupts);
      pend(kInterrupt + 1);
      platform_exit(0);
    case 'v':  // where the vector table is, the constructors' result, what is counted
      print_number(*(volatile uint32_t*)0xE000ED08u);
      print_number((uint64_t)constructed);
      for (const char* unit = platform_cost_unit(); *unit != '\0'; unit++) platform_write(unit, 1);
      platform_exit(0);
    case 'w':  // write the command back
      platform_write(command, (size_t)length);
      platform_exit(0);
    default:
      for (;;) {
      }
  }
}
