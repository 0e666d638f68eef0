// Sleeping until an interrupt without handling it.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_INTERRUPTS_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_INTERRUPTS_H_

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

// Sleeps until interrupt `number` or another is pending, unless `ready` already says so. The NVIC
// lets this interrupt through only while PRIMASK holds all back, so that it ends the sleep and its
// handler never runs; every other interrupt is served as soon as the sleep ends.
static inline void sleep_until_interrupt(uint32_t number, bool (*ready)(void)) {
  const uint32_t bit = 1u << (number % 32u);
  const uint32_t word = 4u * (number / 32u);
  uint32_t primask;
  __asm__ volatile("mrs %0, primask\n cpsid i" : "=r"(primask)::"memory");
  REGISTER(0xE000E100u + word) = bit;  // enable
  if (!ready()) __asm__ volatile("dsb\n wfi" ::: "memory");
  REGISTER(0xE000E180u + word) = bit;  // disable
  REGISTER(0xE000E280u + word) = bit;  // and no longer pending
  __asm__ volatile("msr primask, %0" ::"r"(primask) : "memory");
}

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_INTERRUPTS_H_
