// Vector table, reset and faults for every Cortex-M from M0+ to M55.
//
// The linker script (sections.ld) provides the symbols; a board's memory.ld says where memory is.

#include <stdint.h>

#include "semihosting.h"

extern uint32_t __stack_limit[];  // lowest word of the stack
extern uint32_t __stack_top[];    // one past the highest
extern uint32_t __data_load[];
extern uint32_t __data_start[];
extern uint32_t __data_end[];
extern uint32_t __bss_start[];
extern uint32_t __bss_end[];

int main(void);
_Noreturn void platform_fault(const char* what, uint32_t pc);

// Written over the whole stack at reset; platform_stack_used() looks for the lowest word that
// differs.
#define STACK_PAINT 0xE5E5E5E5u

#define SCB_CPACR (*(volatile uint32_t*)0xE000ED88u)
#define SCB_CCR (*(volatile uint32_t*)0xE000ED14u)

_Noreturn void Reset_Handler(void);

_Noreturn __attribute__((used)) static void start(void) {
  // This function's own frame lies just under __stack_top; leave a little of the top unpainted.
  uint32_t* const painted_end = (uint32_t*)__builtin_frame_address(0) - 16;
  for (uint32_t* word = __stack_limit; word < painted_end; word++) *word = STACK_PAINT;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  SCB_CPACR |= 0xFu << 20;  // full access to CP10 and CP11: FPU and MVE
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
#if defined(__ARM_FEATURE_MVE)
  // Loops of LE/WLS run from the branch predictor's loop cache only when CCR.LOB is set.
  SCB_CCR |= 1u << 19;
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  // No memcpy or memset here: the compiler must not assume that static objects are ready.
  const uint32_t* source = __data_load;
  for (uint32_t* word = __data_start; word < __data_end; word++) *word = *source++;
  for (uint32_t* word = __bss_start; word < __bss_end; word++) *word = 0;
  main();
  for (;;) __asm__ volatile("wfi");
}

__attribute__((naked)) void Reset_Handler(void) {
  // A bootloader or a debugger may come here with another stack pointer.
  __asm__ volatile(
      "ldr r0, =__stack_top\n"
      "mov sp, r0\n"
#if __ARM_ARCH >= 8 && defined(__ARM_ARCH_8M_MAIN__)
      "ldr r0, =__stack_limit\n"
      "msr msplim, r0\n"  // the processor itself faults on an overflow
#endif
      "ldr r0, =start\n"
      "bx r0\n"
      ".ltorg\n");
}

// `frame` is what the processor pushed: r0-r3, r12, lr, pc, xpsr.
__attribute__((used)) static void hard_fault(uint32_t* frame) {
  const uint32_t pc = frame[6];
  if ((frame[7] & (1u << 24)) != 0 && *(const uint16_t*)(uintptr_t)pc == 0xBEABu) {
    // A semihosting call with nobody to answer it: answer -1 and go on behind it.
    frame[0] = 0xFFFFFFFFu;
    frame[6] = pc + 2u;
    return;
  }
  platform_fault("hard fault", pc);
}

__attribute__((naked)) void HardFault_Handler(void) {
  __asm__ volatile(
      "mrs r0, msp\n"  // this program has one stack
      "ldr r1, =hard_fault\n"
      "bx r1\n"
      ".ltorg\n");
}

__attribute__((used)) static void other_fault(uint32_t* frame) {
  uint32_t number;
  __asm__ volatile("mrs %0, ipsr" : "=r"(number));
  number &= 0x1FFu;
  const char* what = "unexpected interrupt";
  if (number == 2) what = "non-maskable interrupt";
  if (number == 4) what = "memory fault";
  if (number == 5) what = "bus fault";
  if (number == 6) what = "usage fault";
  if (number == 7) what = "secure fault";
  if (number == 12) what = "debug monitor";
  platform_fault(what, frame[6]);
}

__attribute__((naked)) void Default_Handler(void) {
  __asm__ volatile(
      "mrs r0, msp\n"
      "ldr r1, =other_fault\n"
      "bx r1\n"
      ".ltorg\n");
}

typedef void (*handler)(void);

// The 16 system entries and 64 interrupts. No interrupt is ever enabled: the UART's is only waited
// for with WFI while PRIMASK holds it back.
__attribute__((section(".vectors"), used)) static const struct {
  uint32_t* stack;
  handler entries[15 + 64];
} vectors = {
    __stack_top,
    {Reset_Handler, Default_Handler, HardFault_Handler,
     // Memory, bus, usage and secure fault, SVCall, debug monitor, PendSV, SysTick, interrupts.
     [3 ... 78] = Default_Handler},
};
