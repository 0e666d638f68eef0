// Clock cycles, which the core counts itself: the DWT's counter (Armv7-M, Armv8-M), or that of the
// PMU (Armv8.1-M). Emulators and the smallest cores have neither, and then cycles_unit() is NULL.
// 32 bits: a measured span must be shorter than 2^32 cycles, 40 s at 100 MHz.

#include "cycles.h"

#include <stddef.h>

#include "memory.h"

#define DEBUG_DEMCR REGISTER(0xE000EDFCu)
#if defined(__ARM_ARCH_8_1M_MAIN__)
#define CYCLES REGISTER(0xE000307Cu)  // PMU_CCNTR
#define PMU_CNTENSET REGISTER(0xE0003C00u)
#define PMU_CTRL REGISTER(0xE0003E04u)
#else
#define DWT_CTRL REGISTER(0xE0001000u)
#define CYCLES REGISTER(0xE0001004u)  // DWT_CYCCNT
#endif

static const char* unit;

void cycles_open(void) {
  DEBUG_DEMCR |= 1u << 24;  // TRCENA: power for DWT and PMU
#if defined(__ARM_ARCH_8_1M_MAIN__)
  PMU_CNTENSET = 1u << 31;
  PMU_CTRL |= 1u;
#else
  DWT_CTRL |= 1u;
#endif
  const uint32_t before = CYCLES;
  for (int i = 0; i < 16; i++) __asm__ volatile("nop");
  unit = CYCLES != before ? "cycles" : NULL;
}

const char* cycles_unit(void) { return unit; }

uint32_t cycles_now(void) { return CYCLES; }
