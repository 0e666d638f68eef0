// UART0 of the nRF51: 115200 baud, 8N1. Registers: "nRF51 Series Reference Manual", UART.

#include "uart.h"

#include <stdbool.h>

#include "board.h"
#include "interrupts.h"
#include "memory.h"

#define UART_STARTRX REGISTER(0x40002000u)
#define UART_STARTTX REGISTER(0x40002008u)
#define UART_RXDRDY REGISTER(0x40002108u)
#define UART_TXDRDY REGISTER(0x4000211Cu)
#define UART_INTENSET REGISTER(0x40002304u)
#define UART_ERRORSRC REGISTER(0x40002480u)
#define UART_ENABLE REGISTER(0x40002500u)
#define UART_PSELTXD REGISTER(0x4000250Cu)
#define UART_PSELRXD REGISTER(0x40002514u)
#define UART_RXD REGISTER(0x40002518u)
#define UART_TXD REGISTER(0x4000251Cu)
#define UART_BAUDRATE REGISTER(0x40002524u)
#define GPIO_OUTSET REGISTER(0x50000508u)
#define GPIO_DIRSET REGISTER(0x50000518u)

enum {
  kInterrupt = 2,
  kReceived = 1u << 2,
  kOverrun = 1u << 0,
  kEnabled = 4,
  kBaud115200 = 0x01D7E000,
};

static uint32_t overruns;

void uart_open(void) {
  // The line idles high.
  GPIO_OUTSET = 1u << BOARD_UART_TRANSMIT_PIN;
  GPIO_DIRSET = 1u << BOARD_UART_TRANSMIT_PIN;
  UART_PSELTXD = BOARD_UART_TRANSMIT_PIN;
  UART_PSELRXD = BOARD_UART_RECEIVE_PIN;
  UART_BAUDRATE = kBaud115200;
  UART_ENABLE = kEnabled;
  UART_INTENSET = kReceived;
  UART_STARTTX = 1;
  UART_STARTRX = 1;
}

void uart_write(const char* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    UART_TXDRDY = 0;
    UART_TXD = (uint8_t)bytes[i];
    while (UART_TXDRDY == 0) {
    }
  }
}

static bool has_byte(void) { return UART_RXDRDY != 0; }

int uart_read_byte(void) {
  while (!has_byte()) sleep_until_interrupt(kInterrupt, has_byte);
  // Before the byte is taken: the next one of the FIFO raises the event again.
  UART_RXDRDY = 0;
  if ((UART_ERRORSRC & kOverrun) != 0) {
    UART_ERRORSRC = kOverrun;
    overruns++;
  }
  return (int)(UART_RXD & 0xFFu);
}

uint32_t uart_overruns(void) { return overruns; }
