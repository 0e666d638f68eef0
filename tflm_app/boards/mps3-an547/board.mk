# Cortex-M55.
CPU := -mcpu=cortex-m55 -mfloat-abi=hard
MACHINE := mps3-an547
IMPLEMENTATIONS := mve dsp portable
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
