// Vector table, reset and faults for every Cortex-M from M0+ to M55.
//
// The program runs on the process stack, at the bottom of the RAM: below it is nothing, so that an
// overflow faults (Armv8-M: at the stack limit) instead of eating variables. Interrupts and faults
// have the main stack, a small one of their own, and can say so even then.

#include <stdbool.h>
#include <stdint.h>

#include "board_hooks.h"
#include "memory.h"

#define SCB_ICSR REGISTER(0xE000ED04u)
#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_CPACR REGISTER(0xE000ED88u)

#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
#define HAS_STACK_LIMITS 1
#endif

// Interrupts behind the 16 system entries: as many as the largest microcontrollers of the families
// here have.
enum { kInterrupts = 112 };

typedef void (*function_t)(void);
extern const function_t __init_array_start[];
extern const function_t __init_array_end[];

int main(void);
void platform_start(void);
_Noreturn void platform_fault(const char* what, const uint32_t* pc);
_Noreturn void Reset_Handler(void);
void HardFault_Handler(void);
void Default_Handler(void);

__attribute__((weak)) void board_init(void) {}
__attribute__((weak)) bool board_interrupt(uint32_t number) {
  (void)number;
  return false;
}
__attribute__((weak, alias("Default_Handler"))) void SVC_Handler(void);
__attribute__((weak, alias("Default_Handler"))) void PendSV_Handler(void);
__attribute__((weak, alias("Default_Handler"))) void SysTick_Handler(void);

// VTOR takes multiples of the table's size, rounded up to a power of two: sections.ld.
__attribute__((section(".vectors"), used)) static const struct {
  uint32_t* stack;
  function_t entries[15 + kInterrupts];
} vectors = {
    __handler_stack_top,
    {Reset_Handler, Default_Handler, HardFault_Handler,
     [3 ... 9] = Default_Handler,  // memory, bus, usage and secure fault
     [10] = SVC_Handler,
     [11 ... 12] = Default_Handler, [13] = PendSV_Handler, [14] = SysTick_Handler,
     [15 ... 14 + kInterrupts] = Default_Handler},
};

_Noreturn __attribute__((used)) static void start(void) {
  // This function's own frame lies just under __stack_top; leave a little of the top unpainted.
  uint32_t* const painted_end = (uint32_t*)__builtin_frame_address(0) - 16;
  for (uint32_t* word = __stack_limit; word < painted_end; word++) *word = STACK_PAINT;
  // A bootloader may have left its own table. The M0 has no such register and ignores it.
  SCB_VTOR = (uint32_t)(uintptr_t)&vectors;
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
  __asm__ volatile("cpsie i" ::: "memory");
  board_init();
  platform_start();
  for (const function_t* f = __init_array_start; f < __init_array_end; f++) (*f)();
  main();
  for (;;) __asm__ volatile("wfi");
}

__attribute__((naked)) void Reset_Handler(void) {
  // A bootloader or a debugger may come here with other stack pointers and interrupts enabled.
  __asm__ volatile(
      "cpsid i\n"
#ifdef HAS_STACK_LIMITS
      "movs r0, #0\n"
      "msr msplim, r0\n"
      "msr psplim, r0\n"
#endif
      "ldr r0, =__handler_stack_top\n"
      "msr msp, r0\n"
      "ldr r0, =__stack_top\n"
      "msr psp, r0\n"
      "movs r0, #2\n"
      "msr control, r0\n"  // threads use the process stack
      "isb\n"
#ifdef HAS_STACK_LIMITS
      "ldr r0, =__handler_stack_limit\n"
      "msr msplim, r0\n"
      "ldr r0, =__stack_limit\n"
      "msr psplim, r0\n"  // the processor itself faults on an overflow
#endif
      "ldr r0, =start\n"
      "bx r0\n"
      ".ltorg\n");
}

// Whether the processor could push a frame there.
static bool is_pushed(const uint32_t* frame) {
  return (frame >= __stack_limit && frame + 8 <= __stack_top) ||
         (frame >= __handler_stack_limit && frame + 8 <= __handler_stack_top);
}

// Memory and bus fault on pushing an exception's frame, usage fault at a stack limit.
static bool overflowed(const uint32_t* frame) {
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
  return !is_pushed(frame);
#else
  return !is_pushed(frame) || (SCB_CFSR & (1u << 4 | 1u << 12 | 1u << 20)) != 0;
#endif
}

// `frame` is what the processor pushed: r0-r3, r12, lr, pc, xpsr.
__attribute__((used)) static void hard_fault(uint32_t* frame) {
  if (overflowed(frame)) platform_fault("stack overflow", 0);
  const uint32_t pc = frame[6];
  if ((frame[7] & (1u << 24)) != 0 && *(const uint16_t*)(uintptr_t)pc == 0xBEABu) {
    // A semihosting call with nobody to answer it: answer -1 and go on behind it.
    frame[0] = 0xFFFFFFFFu;
    frame[6] = pc + 2u;
    return;
  }
  platform_fault("hard fault", &frame[6]);
}

__attribute__((used)) static void other_exception(uint32_t* frame) {
  const uint32_t number = SCB_ICSR & 0x1FFu;
  if (number >= 16 && board_interrupt(number - 16)) return;
  const char* what = "unexpected interrupt";
  if (number == 2) what = "non-maskable interrupt";
  if (number == 4) what = "memory fault";
  if (number == 5) what = "bus fault";
  if (number == 6) what = "usage fault";
  if (number == 7) what = "secure fault";
  if (number == 12) what = "debug monitor";
  if (overflowed(frame)) platform_fault("stack overflow", 0);
  platform_fault(what, &frame[6]);
}

// Calls `function` with the frame's place: bit 2 of EXC_RETURN says on which stack it is. The
// function returns with EXC_RETURN, which ends the exception.
#define WITH_FRAME(function)  \
  __asm__ volatile(           \
      "mov r0, lr\n"          \
      "movs r1, #4\n"         \
      "tst r0, r1\n"          \
      "bne 1f\n"              \
      "mrs r0, msp\n"         \
      "b 2f\n"                \
      "1: mrs r0, psp\n"      \
      "2: ldr r1, =" function \
      "\n"                    \
      "bx r1\n"               \
      ".ltorg\n")

__attribute__((naked)) void HardFault_Handler(void) { WITH_FRAME("hard_fault"); }

__attribute__((naked)) void Default_Handler(void) { WITH_FRAME("other_exception"); }
