// The custom operators in a program of one's own: no engine, no model image. The command is how
// many bytes behind a multiple of 16 the model shall lie; prints the logits of three tokens, or
// what TFLM and the operators say. tflm/tflm.mk builds it with GRAPH=fused.

#include <cstring>

#include "embbert_ops.h"
#include "model_shape.h"
#include "tensorflow/lite/micro/cortex_m_generic/debug_log_callback.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
#define _Noreturn [[noreturn]]
#include "../boards/platform.h"

// The .tflite, in flash.
asm(".section .rodata.graph\n"
    ".balign 16\n"
    "graph_start: .incbin \"graph.tflite\"\n"
    "graph_end:\n"
    ".previous\n");
extern const uint8_t graph_start[];
extern const uint8_t graph_end[];

namespace {

constexpr size_t kModelBytes = 384 * 1024;
constexpr size_t kArenaBytes = 64 * 1024;
alignas(16) uint8_t model_copy[kModelBytes];
alignas(16) uint8_t arena[kArenaBytes];

void say(const char* text) { platform_write(text, std::strlen(text)); }

void say_number(int value) {
  if (value < 0) say("-");
  unsigned rest = static_cast<unsigned>(value < 0 ? -value : value);
  char digits[12];
  size_t at = sizeof(digits);
  digits[--at] = '\0';
  do {
    digits[--at] = static_cast<char>('0' + rest % 10);
    rest /= 10;
  } while (rest > 0);
  say(digits + at);
}

}  // namespace

extern "C" int app_main(void) {
  char command[32];
  if (platform_command(command, sizeof(command)) != 1) return 2;
  const auto offset = static_cast<size_t>(command[0] - '0');
  const auto size = static_cast<size_t>(graph_end - graph_start);
  if (size + 16 > kModelBytes || offset > 16) return 2;
  std::memcpy(model_copy + offset, graph_start, size);

  RegisterDebugLogCallback(say);
  tflite::MicroMutableOpResolver<3> resolver;
  if (embbert::AddOperators(resolver) != kTfLiteOk) return 3;
  tflite::MicroInterpreter interpreter(tflite::GetModel(model_copy + offset), resolver, arena,
                                       kArenaBytes);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 4;
  int32_t* ids = interpreter.input(0)->data.i32;  // (MODEL_MAX_LENGTH)
  for (int t = 0; t < MODEL_MAX_LENGTH; t++) ids[t] = t < 3 ? 2 + 5 * t : 0;
  if (interpreter.Invoke() != kTfLiteOk) return 5;
  for (int i = 0; i < MODEL_LABELS; i++) {
    say_number(interpreter.output(0)->data.int8[i]);
    say(i + 1 < MODEL_LABELS ? " " : "\n");
  }
  return 0;
}
