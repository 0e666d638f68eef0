// What this project's custom operators check and have in common. Not for applications.
#ifndef EMBBERT_TFLM_APP_TFLM_EMBBERT_OP_CHECKS_H_
#define EMBBERT_TFLM_APP_TFLM_EMBBERT_OP_CHECKS_H_

#include <cstddef>
#include <cstdint>

#include "embbert_kernels.h"
#include "tensorflow/lite/kernels/kernel_util.h"
#include "tensorflow/lite/micro/kernels/kernel_util.h"
#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace embbert {

constexpr int kOutput = 0;

// What every operator begins with: persistent data, filled by one of the kernels' own readers.
template <typename Data, typename Params>
void* InitWith(TfLiteContext* context, const char* buffer, size_t length,
               embbert_status_t (*init)(Params*, const void*, size_t)) {
  auto* data = static_cast<Data*>(context->AllocatePersistentBuffer(context, sizeof(Data)));
  if (data == nullptr) return nullptr;
  data->status = init(&data->params, buffer, length);
  return data;
}

// TFLM reads a model wherever its array lies; the kernels want what a .tflite keeps at multiples of
// 4 bytes to be there. An array of bytes has no such alignment unless it says so.
inline bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 4 == 0; }

inline TfLiteStatus Misaligned(const char* what) {
  MicroPrintf("%s: the model's array is not aligned; declare it alignas(16)", what);
  return kTfLiteError;
}

inline TfLiteStatus CheckInit(const char* name, const void* data, embbert_status_t status) {
  if (data != nullptr && status == EMBBERT_OK) return kTfLiteOk;
  if (data != nullptr && status == EMBBERT_ERROR_ARGUMENT) return Misaligned(name);
  MicroPrintf("%s: the kernels do not accept its options (%d); fuse the model again", name,
              data == nullptr ? -1 : static_cast<int>(status));
  return kTfLiteError;
}

// Checks that a weight is a constant of `count` elements and returns it, or null.
template <typename T>
const T* Constant(TfLiteContext* context, TfLiteNode* node, int index, int32_t count) {
  constexpr TfLiteType type = sizeof(T) == 1 ? kTfLiteInt8 : kTfLiteInt32;
  tflite::MicroContext* micro = tflite::GetMicroContext(context);
  TfLiteTensor* tensor = micro->AllocateTempInputTensor(node, index);
  if (tensor == nullptr) return nullptr;
  const T* result = nullptr;
  if (tensor->allocation_type == kTfLiteMmapRo && tensor->type == type &&
      tensor->bytes == static_cast<size_t>(count) * sizeof(T)) {
    result = static_cast<const T*>(tensor->data.data);
  }
  if (result == nullptr) {
    MicroPrintf("input %d is not a constant of %d elements", index, count);
  } else if (!IsAligned(result)) {
    Misaligned("a weight");
    result = nullptr;
  }
  micro->DeallocateTempTfLiteTensor(tensor);
  return result;
}

// Checks type and number of elements of an activation; `output` tells where to look.
inline TfLiteStatus CheckActivation(TfLiteContext* context, TfLiteNode* node, int index,
                                    bool output, TfLiteType type, int64_t count) {
  tflite::MicroContext* micro = tflite::GetMicroContext(context);
  TfLiteTensor* tensor = output ? micro->AllocateTempOutputTensor(node, index)
                                : micro->AllocateTempInputTensor(node, index);
  TF_LITE_ENSURE(context, tensor != nullptr);
  const bool good = tensor->type == type && tflite::NumElements(tensor) == count;
  micro->DeallocateTempTfLiteTensor(tensor);
  if (good) return kTfLiteOk;
  MicroPrintf("%s %d is not of type %s with %d elements", output ? "output" : "input", index,
              TfLiteTypeGetName(type), static_cast<int>(count));
  return kTfLiteError;
}

// Constant initialisation, so that no static constructor has to run.
inline TFLMRegistration Registration(void* (*init)(TfLiteContext*, const char*, size_t),
                                     TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*),
                                     TfLiteStatus (*eval)(TfLiteContext*, TfLiteNode*)) {
  return tflite::micro::RegisterOp(init, prepare, eval);
}

}  // namespace embbert

#endif  // EMBBERT_TFLM_APP_TFLM_EMBBERT_OP_CHECKS_H_
