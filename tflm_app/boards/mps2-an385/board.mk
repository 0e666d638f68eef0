# Cortex-M3, which has no DSP instructions.
CPU := -mcpu=cortex-m3
MACHINE := mps2-an385
IMPLEMENTATIONS := portable
BOARD_SOURCES := boards/drivers/uart_cmsdk.c boards/drivers/counter_fpgaio.c
