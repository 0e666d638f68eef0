// mps2-an505: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_MPS2_AN505_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_MPS2_AN505_BOARD_H_

#define BOARD_NAME "mps2-an505"

// CMSDK APB UART 0, its secure address: receive interrupt 32 (AN505, interrupt map).
#define BOARD_UART_BASE 0x50200000u
#define BOARD_UART_INTERRUPT 32u
#define BOARD_UART_CLOCK_HZ 25000000u

// FPGA system control and I/O, its secure address; its counter runs at 20 MHz under QEMU.
#define BOARD_FPGAIO_BASE 0x50302000u
#define BOARD_FPGAIO_CLOCK_HZ 20000000u

#endif  // EMBBERT_TFLM_APP_BOARDS_MPS2_AN505_BOARD_H_
