// The UART of Arm's Cortex-M System Design Kit (CMSDK APB UART), polled, with sleep while it waits.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_UART_CMSDK_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_UART_CMSDK_H_

#include <stddef.h>

// Sets 115200 baud, 8 data bits, no parity, one stop bit. Call once before the others.
void uart_open(void);

// Sends `count` bytes and waits until the last is in the transmitter.
void uart_write(const char* bytes, size_t count);

// Waits for a byte with the processor asleep and returns it, 0..255.
int uart_read_byte(void);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_UART_CMSDK_H_
