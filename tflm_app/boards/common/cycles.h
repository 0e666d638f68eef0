// Clock cycles, counted by the core itself.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_CYCLES_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_CYCLES_H_

#include <stdint.h>

// Starts the counter. Call once before the others.
void cycles_open(void);

// "cycles", or NULL where the core counts none.
const char* cycles_unit(void);

uint32_t cycles_now(void);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_CYCLES_H_
