// cortex-m4-256k: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_CORTEX_M4_256K_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_CORTEX_M4_256K_BOARD_H_

#define BOARD_NAME "cortex-m4-256k"

// CMSDK APB UART 0: clocked with the system clock, receive interrupt 0.
#define BOARD_UART_BASE 0x40004000u
#define BOARD_UART_INTERRUPT 0u
#define BOARD_UART_CLOCK_HZ 25000000u

// FPGA system control and I/O, whose counter runs at 25 MHz.
#define BOARD_FPGAIO_BASE 0x40028000u
#define BOARD_FPGAIO_CLOCK_HZ 25000000u

#endif  // EMBBERT_TFLM_APP_BOARDS_CORTEX_M4_256K_BOARD_H_
