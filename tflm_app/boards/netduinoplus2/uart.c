// USART1 of the STM32F405: 115200 baud, 8N1.

#include "uart.h"

#include <stdbool.h>

#include "board.h"
#include "interrupts.h"
#include "memory.h"

#define USART_SR REGISTER(0x40011000u)
#define USART_DR REGISTER(0x40011004u)
#define USART_BRR REGISTER(0x40011008u)
#define USART_CR1 REGISTER(0x4001100Cu)

enum {
  kInterrupt = 37,
  kOverrun = 1u << 3,
  kReceived = 1u << 5,
  kTransmitEmpty = 1u << 7,
  kReceive = 1u << 2,
  kTransmit = 1u << 3,
  kReceiveInterrupt = 1u << 5,
  kEnable = 1u << 13,
};

static uint32_t overruns;

void uart_open(void) {
  USART_BRR = (BOARD_CLOCK_HZ + 57600u) / 115200u;
  USART_CR1 = kEnable | kTransmit | kReceive | kReceiveInterrupt;
}

void uart_write(const char* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    while ((USART_SR & kTransmitEmpty) == 0) {
    }
    USART_DR = (uint8_t)bytes[i];
  }
}

static bool has_byte(void) { return (USART_SR & kReceived) != 0; }

int uart_read_byte(void) {
  while (!has_byte()) sleep_until_interrupt(kInterrupt, has_byte);
  // Reading the status and then the data clears the overrun.
  if ((USART_SR & kOverrun) != 0) overruns++;
  return (int)(USART_DR & 0xFFu);
}

uint32_t uart_overruns(void) { return overruns; }
