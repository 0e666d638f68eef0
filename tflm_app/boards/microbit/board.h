// microbit: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_MICROBIT_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_MICROBIT_BOARD_H_

#define BOARD_NAME "microbit"

// The pins that the interface chip's USB serial port is wired to.
#define BOARD_UART_TRANSMIT_PIN 24u
#define BOARD_UART_RECEIVE_PIN 25u

#endif  // EMBBERT_TFLM_APP_BOARDS_MICROBIT_BOARD_H_
