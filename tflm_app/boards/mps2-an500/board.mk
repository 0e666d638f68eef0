# Cortex-M7.
CPU := -mcpu=cortex-m7 -mfloat-abi=soft
MACHINE := mps2-an500
IMPLEMENTATIONS := dsp portable
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
