# STM32F405 (Cortex-M4): USART1 and SysTick of its own.
CPU := -mcpu=cortex-m4 -mfloat-abi=soft
MACHINE := netduinoplus2
IMPLEMENTATIONS := dsp portable
TEXT_BYTES ?= 2048
BOARD_SOURCES := $(BOARD_DIR)/board.c $(BOARD_DIR)/uart.c $(BOARD_DIR)/counter.c
