# Cortex-M4 with half the flash of cortex-m4-64k: room for a model of 4 bits.
CPU := -mcpu=cortex-m4 -mfloat-abi=soft
MACHINE := mps2-an386
IMPLEMENTATIONS := dsp portable
TEXT_BYTES ?= 2048
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
