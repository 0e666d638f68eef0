// Loads any .tflite into an arena of a given size and runs it once, on an emulated board.
// converters/benchmarks/arena.py builds it with TFLM and starts it:
//
//   <model.tflite>\n<arena's bytes>\n<what integer inputs are filled with>\n<resource variables>
//
// It prints {"used_bytes": ..., "cost": ..., "crc": ...}: what an inference costs in units of the
// board's counter (docs/firmware.md), and the CRC of all outputs.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../boards/platform.h"
#include "all_operators.h"
#include "embbert_ops.h"
#include "embbert_scan_op.h"
#include "tensorflow/lite/micro/cortex_m_generic/debug_log_callback.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

// TRIAL_MEMORY is the address of RAM that the linker does not know of, TRIAL_BYTES its size.
uint8_t* const memory = reinterpret_cast<uint8_t*>(TRIAL_MEMORY);

void Say(const char* text) { platform_write(text, strlen(text)); }

void SayNumber(uint32_t value) {
  char digits[11];
  size_t at = sizeof(digits);
  digits[--at] = '\0';
  do {
    digits[--at] = static_cast<char>('0' + value % 10u);
    value /= 10u;
  } while (value > 0);
  Say(&digits[at]);
}

char* NextLine(char** text) {
  char* line = *text;
  char* end = line;
  while (*end != '\0' && *end != '\n') end++;
  *text = *end == '\0' ? end : end + 1;
  *end = '\0';
  return line;
}

uint32_t Number(const char* text) {
  uint32_t value = 0;
  while (*text >= '0' && *text <= '9') value = value * 10u + static_cast<uint32_t>(*text++ - '0');
  return value;
}

size_t RoundUp(size_t value) { return (value + 15u) / 16u * 16u; }

uint32_t Crc(uint32_t crc, const uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0u);
  }
  return crc;
}

void Fill(TfLiteTensor* tensor, uint32_t index) {
  uint32_t noise = 12345u + index;
  for (size_t i = 0; i < tensor->bytes; i++) {
    noise = noise * 1664525u + 1013904223u;
    tensor->data.uint8[i] = static_cast<uint8_t>(noise >> 24);
  }
  const size_t count = tensor->bytes / 4;
  for (size_t i = 0; tensor->type == kTfLiteInt32 && i < count; i++) {
    tensor->data.i32[i] = static_cast<int32_t>(index);
  }
  for (size_t i = 0; tensor->type == kTfLiteInt64 && i < tensor->bytes / 8; i++) {
    tensor->data.i64[i] = static_cast<int64_t>(index);
  }
  for (size_t i = 0; tensor->type == kTfLiteFloat32 && i < count; i++) {
    tensor->data.f[i] = static_cast<float>(i % 7u) * 0.125f - 0.375f;
  }
  for (size_t i = 0; tensor->type == kTfLiteBool && i < tensor->bytes; i++) {
    tensor->data.b[i] = true;
  }
}

int Run(const uint8_t* model, uint8_t* arena, size_t bytes, uint32_t index, int variables) {
  tflite::MicroMutableOpResolver<ALL_OPERATORS + 4> resolver;
  if (AddAllOperators(resolver) != kTfLiteOk) return 1;
  if (embbert::AddOperators(resolver) != kTfLiteOk ||
      resolver.AddCustom("EMBBERT_SELECTIVE_SCAN", embbert::Register_SELECTIVE_SCAN()) !=
          kTfLiteOk) {
    return 1;
  }
  tflite::MicroAllocator* allocator = tflite::MicroAllocator::Create(arena, bytes);
  tflite::MicroResourceVariables* resources =
      variables > 0 ? tflite::MicroResourceVariables::Create(allocator, variables) : nullptr;
  tflite::MicroInterpreter interpreter(tflite::GetModel(model), resolver, allocator, resources);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;
  const size_t used = interpreter.arena_used_bytes();
  for (size_t i = 0; i < interpreter.inputs_size(); i++) Fill(interpreter.input(i), index);
  const uint64_t begin = platform_counter();
  if (interpreter.Invoke() != kTfLiteOk) return 1;
  const uint64_t cost = platform_cost_since(begin);
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < interpreter.outputs_size(); i++) {
    const TfLiteTensor* output = interpreter.output(i);
    crc = Crc(crc, output->data.uint8, output->bytes);
  }
  Say("{\"used_bytes\": ");
  SayNumber(static_cast<uint32_t>(used));
  Say(", \"cost\": ");
  SayNumber(static_cast<uint32_t>(cost));
  Say(", \"crc\": ");
  SayNumber(crc);
  Say("}\n");
  return 0;
}

}  // namespace

extern "C" int app_main(void) {
  char command[1024];
  if (platform_command(command, sizeof(command)) <= 0) return 2;
  RegisterDebugLogCallback(Say);
  char* rest = command;
  const char* path = NextLine(&rest);
  const size_t bytes = Number(NextLine(&rest));
  const uint32_t index = Number(NextLine(&rest));
  const int variables = static_cast<int>(Number(NextLine(&rest)));
  const int32_t file = platform_open_read(path);
  if (file < 0) return 2;
  const int32_t size = platform_read(file, memory, TRIAL_BYTES);
  (void)platform_close(file);
  if (size <= 0 || RoundUp(static_cast<size_t>(size)) + bytes > TRIAL_BYTES) return 2;
  uint8_t* arena = memory + RoundUp(static_cast<size_t>(size));
  memset(arena, 0xA5, bytes);
  return Run(memory, arena, bytes, index, variables);
}
