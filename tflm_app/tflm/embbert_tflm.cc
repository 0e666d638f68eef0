#include "embbert_tflm.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "embbert_backend.h"
#include "embbert_image.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifdef EMBBERT_TFLM_ONE_MODEL
#include "arena_size.h"      // made by converters/firmware/size_arena.py
#include "model_resolver.h"  // made by converters/generate_tflm.py
#include "model_shape.h"
#else
// Any fused graph. Whoever opens a model sees to the size of its arena.
#include "embbert_ops.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#define MODEL_ARENA_BYTES 0u
#define MODEL_OPERATORS 3
namespace embbert {
using ModelResolver = tflite::MicroMutableOpResolver<MODEL_OPERATORS>;
inline TfLiteStatus AddModelOperators(ModelResolver& resolver) { return AddOperators(resolver); }
}  // namespace embbert
#endif
#ifndef EMBBERT_TFLM_NAME
#define EMBBERT_TFLM_NAME "TFLM, fused"
#endif

// Only TFLM's cortex_m_generic target has it; elsewhere TFLM's words go to its standard error.
extern "C" __attribute__((weak)) void RegisterDebugLogCallback(void (*callback)(const char*));

extern "C" __attribute__((weak)) void embbert_tflm_halted(const char* what) {
  static_cast<void>(what);
  std::abort();
}

const char embbert_tflm_implementation[] = EMBBERT_TFLM_NAME;

namespace {

// What TFLM said, from its first message on: as many as fit. TFLM's callback has no context, so
// that this is the one thing that engines share.
char words[192];
size_t words_length = 0;

bool is_blank(char c) { return c == ' ' || c == '\r' || c == '\n'; }

void append(const char* text) {
  while (*text != '\0' && words_length + 1 < sizeof(words)) {
    words[words_length++] = is_blank(*text) ? ' ' : *text;
    text++;
  }
  words[words_length] = '\0';
}

void append_number(size_t value) {
  char digits[24];
  size_t at = sizeof(digits);
  digits[--at] = '\0';
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value > 0);
  append(digits + at);
}

void forget() {
  words_length = 0;
  words[0] = '\0';
}

// TFLM announces a failed check with "HALTED" and then spins for ever; end the program instead.
void on_log(const char* text) {
  if (std::strncmp(text, "HALTED", 6) == 0) {
    if (words_length == 0) append("a check of its own failed");
    embbert_tflm_halted(words);
  }
  // The end of a line comes in a call of its own.
  while (is_blank(*text)) text++;
  if (*text == '\0') return;
  if (words_length > 0) append("; ");
  append(text);
  while (words_length > 0 && words[words_length - 1] == ' ') words[--words_length] = '\0';
}

struct State {
  embbert::ModelResolver resolver;
  alignas(tflite::MicroInterpreter) uint8_t interpreter[sizeof(tflite::MicroInterpreter)];
};
static_assert(sizeof(State) <= EMBBERT_TFLM_STATE_BYTES(MODEL_OPERATORS),
              "EMBBERT_TFLM_STATE_BYTES is too small");

tflite::MicroInterpreter* interpreter_of(const embbert_engine_t* engine) {
  return reinterpret_cast<tflite::MicroInterpreter*>(
      static_cast<State*>(engine->backend)->interpreter);
}

size_t elements(const TfLiteTensor* tensor) {
  size_t count = 1;
  for (int i = 0; i < tensor->dims->size; i++) count *= static_cast<size_t>(tensor->dims->data[i]);
  return count;
}

bool has(const TfLiteTensor* tensor, TfLiteType type, int32_t count) {
  return tensor != nullptr && tensor->type == type &&
         elements(tensor) == static_cast<size_t>(count);
}

}  // namespace

int embbert_backend_shape(embbert_engine_t* engine) {
  size_t size;
  const auto* shape = static_cast<const tflm_shape_t*>(
      embbert_image_section(&engine->image, kEmbbertSectionTflmShape, 0, &size));
  if (shape == nullptr || size != sizeof(*shape)) return kEmbbertSection;
  if (shape->vocab_size < 1 || shape->max_length < 2 || shape->max_length > EMBBERT_MAX_LENGTH ||
      shape->reduced < 1 || shape->hidden < 1 || shape->expansion < 1 || shape->taps < 0) {
    return kEmbbertShapes;
  }
#ifdef EMBBERT_TFLM_ONE_MODEL
  if (shape->max_length != MODEL_MAX_LENGTH || shape->hidden != MODEL_HIDDEN ||
      engine->config.blocks != MODEL_BLOCKS || engine->config.labels != MODEL_LABELS) {
    return kEmbbertShapes;
  }
#endif
  engine->model.embed.vocab_size = shape->vocab_size;
  engine->model.embed.max_length = shape->max_length;
  engine->model.embed.reduced = shape->reduced;
  engine->model.embed.hidden = shape->hidden;
  engine->model.head.hidden = shape->hidden;
  engine->model.head.labels = engine->config.labels;
  return kEmbbertOk;
}

int embbert_backend_open(embbert_engine_t* engine, void* memory, size_t memory_size) {
  const auto num_blocks = static_cast<size_t>(engine->config.blocks);
  const auto labels = static_cast<size_t>(engine->config.labels);
  const auto max_length = static_cast<size_t>(engine->model.embed.max_length);
  const size_t overhead = EMBBERT_TFLM_OVERHEAD(MODEL_OPERATORS, num_blocks, labels, max_length);
  forget();
  engine->memory_needed = overhead + MODEL_ARENA_BYTES;
  if (memory == nullptr || memory_size < engine->memory_needed) {
    if (MODEL_ARENA_BYTES == 0u) {
      append("the memory is too small");
      return kEmbbertMemory;
    }
    append("the arena has ");
    append_number(memory == nullptr || memory_size < overhead ? 0 : memory_size - overhead);
    append(" bytes, the model needs ");
    append_number(MODEL_ARENA_BYTES);
    return kEmbbertMemory;
  }
  if (reinterpret_cast<uintptr_t>(memory) % 16 != 0) {
    append("the memory is not aligned: it has to lie at a multiple of 16");
    return kEmbbertMemory;
  }
  size_t size;
  const void* tflite_file = embbert_image_section(&engine->image, kEmbbertSectionTflite, 0, &size);
  if (tflite_file == nullptr) return kEmbbertSection;

  auto* next = static_cast<uint8_t*>(memory);
  auto* state = new (next) State;
  next += EMBBERT_TFLM_STATE_BYTES(MODEL_OPERATORS);
  auto* blocks = reinterpret_cast<embbert_block_t*>(next);
  next += EMBBERT_TFLM_ROUND16(num_blocks * sizeof(embbert_block_t));
  engine->ids = reinterpret_cast<uint16_t*>(next);
  next += EMBBERT_TFLM_ROUND16(2u * max_length);
  engine->segments = next;
  next += EMBBERT_TFLM_ROUND16(max_length);
  engine->logits = reinterpret_cast<int8_t*>(next);
  next += EMBBERT_TFLM_ROUND16(labels);
  engine->work = next;  // the tokenizer's
  next += EMBBERT_TFLM_ROUND16(sizeof(embbert_tokenizer_scratch_t));
  uint8_t* arena = next;
  engine->backend = state;

  // The benchmark counts multiply-accumulates from these; the weights are TFLM's business.
  const auto* shape = static_cast<const tflm_shape_t*>(
      embbert_image_section(&engine->image, kEmbbertSectionTflmShape, 0, &size));
  std::memset(blocks, 0, num_blocks * sizeof(embbert_block_t));
  for (int32_t i = 0; i < engine->config.blocks; i++) {
    blocks[i].hidden = shape->hidden;
    blocks[i].expansion = shape->expansion;
    blocks[i].taps = shape->taps;
  }
  engine->model.blocks = blocks;
  // None where the graph is no EmbBERT's.
  engine->model.num_blocks = shape->taps > 0 ? engine->config.blocks : 0;

  if (RegisterDebugLogCallback != nullptr) RegisterDebugLogCallback(on_log);
  const tflite::Model* model = tflite::GetModel(tflite_file);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    append("the .tflite has a schema that this TFLM does not know");
    return kEmbbertRuntime;
  }
  if (embbert::AddModelOperators(state->resolver) != kTfLiteOk) return kEmbbertRuntime;
  auto* interpreter = new (state->interpreter)
      tflite::MicroInterpreter(model, state->resolver, arena, memory_size - overhead);
  if (interpreter->initialization_status() != kTfLiteOk ||
      interpreter->AllocateTensors() != kTfLiteOk) {
    return kEmbbertRuntime;
  }
  const int32_t length = engine->model.embed.max_length;
  const bool inputs_fit =
      interpreter->inputs_size() >= 1 && interpreter->inputs_size() <= 2 &&
      has(interpreter->input(0), kTfLiteInt32, length) &&
      (interpreter->inputs_size() == 1 || has(interpreter->input(1), kTfLiteInt32, length));
  if (!inputs_fit || interpreter->outputs_size() != 1 ||
      !has(interpreter->output(0), kTfLiteInt8, engine->config.labels)) {
    append("inputs or outputs of the graph are not int32 ids, int32 segments and int8 logits");
    return kEmbbertRuntime;
  }
  return kEmbbertOk;
}

int embbert_backend_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count) {
  forget();
  tflite::MicroInterpreter* interpreter = interpreter_of(engine);
  const auto length = static_cast<size_t>(engine->model.embed.max_length);
  for (size_t t = 0; t < count; t++) {
    if (ids[t] >= engine->model.embed.vocab_size) return kEmbbertTokens;
  }
  int32_t* ids_in = interpreter->input(0)->data.i32;  // (S)
  for (size_t t = 0; t < length; t++) ids_in[t] = t < count ? ids[t] : 0;
  if (interpreter->inputs_size() == 2) {
    int32_t* segments_in = interpreter->input(1)->data.i32;  // (S)
    for (size_t t = 0; t < length; t++) segments_in[t] = t < count ? engine->segments[t] : 0;
  }
  if (interpreter->Invoke() != kTfLiteOk) return kEmbbertRuntime;
  std::memcpy(engine->logits, interpreter->output(0)->data.int8,
              static_cast<size_t>(engine->config.labels));
  return kEmbbertOk;
}

const char* embbert_backend_message(int status) {
  if (words_length > 0) return words;
  return status == kEmbbertMemory
             ? "the arena is too small"
             : "TFLM refused and gave no reason: its messages are compiled out";
}

size_t embbert_tflm_arena_used(const embbert_engine_t* engine) {
  return interpreter_of(engine)->arena_used_bytes();
}
