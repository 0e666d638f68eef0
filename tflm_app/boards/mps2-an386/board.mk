# Cortex-M4.
CPU := -mcpu=cortex-m4 -mfloat-abi=soft
MACHINE := mps2-an386
IMPLEMENTATIONS := dsp portable
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
