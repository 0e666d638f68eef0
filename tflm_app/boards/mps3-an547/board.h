// mps3-an547: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_MPS3_AN547_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_MPS3_AN547_BOARD_H_

#define BOARD_NAME "mps3-an547"

// CMSDK APB UART 0: receive interrupt 33 (AN547, interrupt map).
#define BOARD_UART_BASE 0x49303000u
#define BOARD_UART_INTERRUPT 33u
#define BOARD_UART_CLOCK_HZ 25000000u

// FPGA system control and I/O, whose counter runs at 20 MHz under QEMU.
#define BOARD_FPGAIO_BASE 0x49302000u
#define BOARD_FPGAIO_CLOCK_HZ 20000000u

#endif  // EMBBERT_TFLM_APP_BOARDS_MPS3_AN547_BOARD_H_
