// The symbols of sections.ld. Their addresses are what they say.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_MEMORY_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_MEMORY_H_

#include <stdint.h>

extern uint32_t __stack_limit[];  // lowest word of the program's stack, which is that of the RAM
extern uint32_t __stack_top[];    // one past the highest
extern uint32_t __handler_stack_limit[];
extern uint32_t __handler_stack_top[];
extern uint32_t __data_load[];
extern uint32_t __data_start[];
extern uint32_t __data_end[];
extern uint32_t __bss_start[];
extern uint32_t __bss_end[];

// Written over the whole stack at reset; platform_stack_used() looks for the lowest word that
// differs.
#define STACK_PAINT 0xE5E5E5E5u

#define REGISTER(address) (*(volatile uint32_t*)(uintptr_t)(address))

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_MEMORY_H_
