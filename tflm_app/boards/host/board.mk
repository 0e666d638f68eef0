# The machine at hand: no CPU, so a process and not a program on bare metal.
IMPLEMENTATIONS := portable
BOARD_SOURCES := boards/host/platform_host.c
