// netduinoplus2: what the drivers that its board.mk names need to know.

#ifndef EMBBERT_TFLM_APP_BOARDS_NETDUINOPLUS2_BOARD_H_
#define EMBBERT_TFLM_APP_BOARDS_NETDUINOPLUS2_BOARD_H_

#define BOARD_NAME "netduinoplus2"

// STM32F405, clocked by its internal oscillator as after reset. Registers: reference manual RM0090.
#define BOARD_CLOCK_HZ 16000000u

#endif  // EMBBERT_TFLM_APP_BOARDS_NETDUINOPLUS2_BOARD_H_
