# Cortex-M4 of the common small size: mps2-an386 with less memory.
CPU := -mcpu=cortex-m4 -mfloat-abi=soft
MACHINE := mps2-an386
IMPLEMENTATIONS := dsp portable
TEXT_BYTES ?= 2048
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
