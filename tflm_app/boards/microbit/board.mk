# BBC micro:bit: nRF51822, Cortex-M0.
CPU := -mcpu=cortex-m0
MACHINE := microbit
IMPLEMENTATIONS := portable
TEXT_BYTES ?= 512
BOARD_SOURCES := $(BOARD_DIR)/uart.c $(BOARD_DIR)/counter.c
