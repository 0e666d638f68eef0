// The counter of Arm's MPS2 and MPS3 FPGA images: instructions under QEMU, cycles on the board.
//
// boards/emulate.sh starts QEMU with -icount shift=7: one instruction is 128 ns of its clock, more
// than two ticks of the counter, so that counts of instructions come out exact. Whether that is so
// is measured at start, with loops of known length; where it is not, the core counts its cycles.

#include <stdbool.h>
#include <stddef.h>

#include "board.h"
#include "counter.h"
#include "cycles.h"
#include "memory.h"

#define FPGAIO_CLK100HZ REGISTER(BOARD_FPGAIO_BASE + 0x14u)
#define FPGAIO_COUNTER REGISTER(BOARD_FPGAIO_BASE + 0x18u)
#define NANOSECONDS_PER_INSTRUCTION 128u

static bool counts_instructions;

// No division here: what it costs depends on its operands, and it would be counted.
static uint64_t fpgaio_now(void) {
  // The counter wraps after 172 s or 215 s; the 100 Hz counter, started together with it, says how
  // often it has.
  const uint64_t coarse = (uint64_t)FPGAIO_CLK100HZ * (BOARD_FPGAIO_CLOCK_HZ / 100u);
  const uint32_t ticks = FPGAIO_COUNTER;
  return coarse + (uint64_t)(int64_t)(int32_t)(ticks - (uint32_t)coarse);
}

static uint64_t instructions(uint64_t ticks) {
  const uint32_t nanoseconds_per_tick = 1000000000u / BOARD_FPGAIO_CLOCK_HZ;
  // Two readings differ by less than one tick from the truth, and an instruction is more than two,
  // so that the nearest whole number is the number.
  return (ticks * nanoseconds_per_tick + NANOSECONDS_PER_INSTRUCTION / 2) /
         NANOSECONDS_PER_INSTRUCTION;
}

// Executes 2 * count instructions and a constant few.
__attribute__((noinline)) static uint32_t loop(uint32_t count) {
  const uint32_t before = FPGAIO_COUNTER;
  __asm__ volatile(
      ".syntax unified\n"
      "1: subs %0, %0, #1\n"
      "bne 1b\n"
      : "+l"(count)::"cc");
  return FPGAIO_COUNTER - before;
}

void counter_open(void) {
  const uint64_t few = instructions(loop(10));
  counts_instructions =
      instructions(loop(60)) - few == 100 && instructions(loop(510)) - few == 1000;
  if (!counts_instructions) cycles_open();
}

const char* counter_unit(void) { return counts_instructions ? "instructions" : cycles_unit(); }

uint64_t counter_now(void) { return counts_instructions ? fpgaio_now() : cycles_now(); }

uint32_t counter_ticks(void) { return counts_instructions ? FPGAIO_COUNTER : cycles_now(); }

uint64_t counter_amount(uint64_t ticks) {
  return counts_instructions ? instructions(ticks) : (uint32_t)ticks;
}
