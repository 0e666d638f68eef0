// Counts clock cycles, where the core can.

#include "counter.h"
#include "cycles.h"

void counter_open(void) { cycles_open(); }

const char* counter_unit(void) { return cycles_unit(); }

uint64_t counter_now(void) { return cycles_now(); }

uint32_t counter_ticks(void) { return cycles_now(); }

uint64_t counter_amount(uint64_t ticks) { return (uint32_t)ticks; }
