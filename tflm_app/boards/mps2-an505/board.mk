# Cortex-M33, in the secure state that it starts in.
CPU := -mcpu=cortex-m33 -mfloat-abi=soft
MACHINE := mps2-an505
IMPLEMENTATIONS := dsp portable
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
