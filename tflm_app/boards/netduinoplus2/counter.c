// SysTick, which every Cortex-M has, as a counter: ticks of the processor's clock. 24 bits count
// down and an interrupt counts the wraps.

#include "counter.h"

#include "board_hooks.h"
#include "memory.h"

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define SCB_ICSR REGISTER(0xE000ED04u)

static const uint32_t kMost = 0xFFFFFFu;
static volatile uint32_t wraps;

void SysTick_Handler(void) { wraps++; }

void counter_open(void) {
  SYST_RVR = kMost;
  SYST_CVR = 0;
  SYST_CSR = 7u;  // the processor's clock, with interrupt
}

const char* counter_unit(void) { return "ticks"; }

uint64_t counter_now(void) {
  uint32_t whole, left, pending;
  do {
    whole = wraps;
    pending = SCB_ICSR & 1u << 26;  // a wrap that has not been counted yet: interrupts are masked
    left = SYST_CVR;
  } while (whole != wraps);
  if (pending != 0 && left > kMost / 2) whole++;
  return (uint64_t)whole << 24 | (kMost - left);
}

uint32_t counter_ticks(void) { return (uint32_t)counter_now(); }

uint64_t counter_amount(uint64_t ticks) { return ticks; }
