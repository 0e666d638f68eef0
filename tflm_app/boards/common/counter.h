// What counts the work that is done: counter_fpgaio.c, counter_cycles.c, or a board's own
// counter.c.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_COUNTER_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_COUNTER_H_

#include <stdint.h>

// Starts the counter. Call once before the others.
void counter_open(void);

// What counter_amount() counts: "instructions", "cycles" or "ticks"; NULL where nothing counts.
const char* counter_unit(void);

// The counter, and its low half, the fastest to read.
uint64_t counter_now(void);
uint32_t counter_ticks(void);

// A difference of two readings in the unit.
uint64_t counter_amount(uint64_t ticks);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_COUNTER_H_
