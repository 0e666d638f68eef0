# Cortex-M4 with memory beside the chip, where models above 4 MB have room: mps2-an386's PSRAM.
CPU := -mcpu=cortex-m4 -mfloat-abi=soft
MACHINE := mps2-an386
IMPLEMENTATIONS := dsp portable
TEXT_BYTES ?= 2048
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
