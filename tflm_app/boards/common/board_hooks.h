// What a board may define; startup.c does nothing in their place.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_BOARD_HOOKS_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_BOARD_HOOKS_H_

#include <stdbool.h>
#include <stdint.h>

// Clocks and pins: after static objects have their values, before constructors and main().
void board_init(void);

// Serves the processor's interrupt `number` (0: the first behind SysTick). Returns false for one
// that it does not know: that ends the program with a line.
bool board_interrupt(uint32_t number);

// Exceptions of the processor itself.
void SVC_Handler(void);
void PendSV_Handler(void);
void SysTick_Handler(void);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_BOARD_HOOKS_H_
