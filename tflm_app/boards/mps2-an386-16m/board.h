// mps2-an386-16m: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_MPS2_AN386_16M_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_MPS2_AN386_16M_BOARD_H_

#define BOARD_NAME "mps2-an386-16m"

// CMSDK APB UART 0: clocked with the system clock, receive interrupt 0.
#define BOARD_UART_BASE 0x40004000u
#define BOARD_UART_INTERRUPT 0u
#define BOARD_UART_CLOCK_HZ 25000000u

// FPGA system control and I/O, whose counter runs at 25 MHz.
#define BOARD_FPGAIO_BASE 0x40028000u
#define BOARD_FPGAIO_CLOCK_HZ 25000000u

#endif  // EMBBERT_TFLM_APP_BOARDS_MPS2_AN386_16M_BOARD_H_
