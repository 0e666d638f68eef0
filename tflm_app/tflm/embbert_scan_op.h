// EMBBERT_SELECTIVE_SCAN for TensorFlow Lite Micro: MAMBA's selective scan as one operator.
//
//   tflite::MicroMutableOpResolver<N> resolver;
//   resolver.AddCustom("EMBBERT_SELECTIVE_SCAN", embbert::Register_SELECTIVE_SCAN());
//
// Compile embbert_scan_op.cc and embbert_scan.c along; docs/selective_scan.md has all the rest.
#ifndef EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_OP_H_
#define EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_OP_H_

#include "tensorflow/lite/micro/micro_common.h"

namespace embbert {

const TFLMRegistration* Register_SELECTIVE_SCAN();

}  // namespace embbert

#endif  // EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_OP_H_
