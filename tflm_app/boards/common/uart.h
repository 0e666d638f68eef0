// The UART that people type at: what uart_cmsdk.c, or a board's own uart.c, defines. Polled, with
// sleep while it waits.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_UART_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_UART_H_

#include <stddef.h>
#include <stdint.h>

// Sets 115200 baud, 8 data bits, no parity, one stop bit. Call once before the others.
void uart_open(void);

// Sends `count` bytes and waits until the last is in the transmitter.
void uart_write(const char* bytes, size_t count);

// Waits for a byte with the processor asleep and returns it, 0..255. Other interrupts are served
// meanwhile.
int uart_read_byte(void);

// How often a byte was lost because the one before it had not been read yet.
uint32_t uart_overruns(void);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_UART_H_
