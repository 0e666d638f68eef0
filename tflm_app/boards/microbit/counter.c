// TIMER0 of the nRF51, 32 bits at the processor's 16 MHz: its cycles, or instructions under QEMU.
//
// boards/emulate.sh starts QEMU with -icount shift=7: one instruction is 128 ns, more than two
// ticks of 62.5 ns, so that counts of instructions come out exact. Whether that is so is measured
// at start, with loops of known length. Registers: "nRF51 Series Reference Manual", TIMER. A
// measured span must be shorter than 2^32 ticks, 268 s.

#include "counter.h"

#include <stdbool.h>

#include "memory.h"

#define TIMER_START REGISTER(0x40008000u)
#define TIMER_CAPTURE REGISTER(0x40008040u)
#define TIMER_BITMODE REGISTER(0x40008508u)
#define TIMER_PRESCALER REGISTER(0x40008510u)
#define TIMER_CAPTURED REGISTER(0x40008540u)
#define CLOCK_STARTHFCLK REGISTER(0x40000000u)

static const uint32_t kBits32 = 3;

static bool counts_instructions;

uint32_t counter_ticks(void) {
  TIMER_CAPTURE = 1;
  return TIMER_CAPTURED;
}

// 125 / 2 ns a tick, 128 ns an instruction, to the nearest.
static uint64_t instructions(uint32_t ticks) { return ((uint64_t)ticks * 125u + 128u) >> 8; }

// Executes 2 * count instructions and a constant few.
__attribute__((noinline)) static uint32_t loop(uint32_t count) {
  const uint32_t before = counter_ticks();
  __asm__ volatile(
      ".syntax unified\n"
      "1: subs %0, %0, #1\n"
      "bne 1b\n"
      : "+l"(count)::"cc");
  return counter_ticks() - before;
}

void counter_open(void) {
  CLOCK_STARTHFCLK = 1;  // the crystal
  TIMER_PRESCALER = 0;
  TIMER_BITMODE = kBits32;
  TIMER_START = 1;
  const uint64_t few = instructions(loop(10));
  counts_instructions =
      instructions(loop(60)) - few == 100 && instructions(loop(510)) - few == 1000;
}

const char* counter_unit(void) { return counts_instructions ? "instructions" : "cycles"; }

uint64_t counter_now(void) { return counter_ticks(); }

uint64_t counter_amount(uint64_t ticks) {
  return counts_instructions ? instructions((uint32_t)ticks) : (uint32_t)ticks;
}
