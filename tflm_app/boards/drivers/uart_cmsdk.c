// The UART of Arm's Cortex-M System Design Kit. Registers: "Cortex-M System Design Kit Technical
// Reference Manual", APB UART.

#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "interrupts.h"
#include "memory.h"
#include "uart.h"

#define UART_DATA REGISTER(BOARD_UART_BASE + 0x00u)
#define UART_STATE REGISTER(BOARD_UART_BASE + 0x04u)
#define UART_CTRL REGISTER(BOARD_UART_BASE + 0x08u)
#define UART_INTSTATUS REGISTER(BOARD_UART_BASE + 0x0Cu)
#define UART_BAUDDIV REGISTER(BOARD_UART_BASE + 0x10u)

enum {
  kStateTransmitFull = 1u << 0,
  kStateReceiveFull = 1u << 1,
  kStateReceiveOverrun = 1u << 3,
  kCtrlTransmit = 1u << 0,
  kCtrlReceive = 1u << 1,
  kCtrlReceiveInterrupt = 1u << 3,
  kIntReceive = 1u << 1,
};

static const uint32_t kBaud = 115200u;

static uint32_t overruns;

void uart_open(void) {
  UART_BAUDDIV = BOARD_UART_CLOCK_HZ / kBaud;
  UART_CTRL = kCtrlTransmit | kCtrlReceive | kCtrlReceiveInterrupt;
}

void uart_write(const char* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    while ((UART_STATE & kStateTransmitFull) != 0) {
    }
    UART_DATA = (uint8_t)bytes[i];
  }
}

static bool has_byte(void) { return (UART_STATE & kStateReceiveFull) != 0; }

int uart_read_byte(void) {
  while (!has_byte()) sleep_until_interrupt(BOARD_UART_INTERRUPT, has_byte);
  if ((UART_STATE & kStateReceiveOverrun) != 0) {
    UART_STATE = kStateReceiveOverrun;
    overruns++;
  }
  const int byte = (int)(UART_DATA & 0xFFu);
  UART_INTSTATUS = kIntReceive;
  return byte;
}

uint32_t uart_overruns(void) { return overruns; }
