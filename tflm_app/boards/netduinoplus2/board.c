// Clocks and pins.

#include "board_hooks.h"
#include "memory.h"

#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRH REGISTER(0x40020024u)

void board_init(void) {
  RCC_AHB1ENR |= 1u << 0;  // GPIOA
  RCC_APB2ENR |= 1u << 4;  // USART1
  (void)RCC_APB2ENR;       // the clock takes two cycles
  // PA9 and PA10: alternate function 7, USART1.
  GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 18)) | 0xAu << 18;
  GPIOA_AFRH = (GPIOA_AFRH & ~(0xFFu << 4)) | 0x77u << 4;
}
