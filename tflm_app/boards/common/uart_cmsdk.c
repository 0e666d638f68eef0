// Registers: "Cortex-M System Design Kit Technical Reference Manual", APB UART.

#include "uart_cmsdk.h"

#include <stdint.h>

#include "board.h"

#define REGISTER(address) (*(volatile uint32_t*)(uintptr_t)(address))
#define UART_DATA REGISTER(BOARD_UART_BASE + 0x00u)
#define UART_STATE REGISTER(BOARD_UART_BASE + 0x04u)
#define UART_CTRL REGISTER(BOARD_UART_BASE + 0x08u)
#define UART_INTSTATUS REGISTER(BOARD_UART_BASE + 0x0Cu)
#define UART_BAUDDIV REGISTER(BOARD_UART_BASE + 0x10u)
#define NVIC_ISER REGISTER(0xE000E100u + 4u * (BOARD_UART_INTERRUPT / 32u))
#define NVIC_ICPR REGISTER(0xE000E280u + 4u * (BOARD_UART_INTERRUPT / 32u))

enum {
  kStateTransmitFull = 1u << 0,
  kStateReceiveFull = 1u << 1,
  kCtrlTransmit = 1u << 0,
  kCtrlReceive = 1u << 1,
  kCtrlReceiveInterrupt = 1u << 3,
  kIntReceive = 1u << 1,
};

static const uint32_t kBaud = 115200u;
static const uint32_t kInterruptBit = 1u << (BOARD_UART_INTERRUPT % 32u);

void uart_open(void) {
  UART_BAUDDIV = BOARD_UART_CLOCK_HZ / kBaud;
  UART_CTRL = kCtrlTransmit | kCtrlReceive | kCtrlReceiveInterrupt;
  // The interrupt only ends WFI; PRIMASK keeps its handler from ever running.
  __asm__ volatile("cpsid i" ::: "memory");
  NVIC_ISER = kInterruptBit;
}

void uart_write(const char* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    while ((UART_STATE & kStateTransmitFull) != 0) {
    }
    UART_DATA = (uint8_t)bytes[i];
  }
}

int uart_read_byte(void) {
  while ((UART_STATE & kStateReceiveFull) == 0) __asm__ volatile("wfi");
  const int byte = (int)(UART_DATA & 0xFFu);
  UART_INTSTATUS = kIntReceive;
  NVIC_ICPR = kInterruptBit;
  return byte;
}
