#include "embbert_scan_op.h"

#include "embbert_op_checks.h"
#include "embbert_scan.h"

namespace embbert {
namespace {

// Input indices; converters/kernels/selective_scan.py has the same names.
constexpr int kScanU = 0;
constexpr int kScanSteps = 1;
constexpr int kScanStateIn = 2;
constexpr int kScanStateOut = 3;
constexpr int kScanDecay = 4;
constexpr int kScanSkip = 5;
constexpr int kScanInputs = 6;

struct ScanData {
  embbert_scan_t params;
  embbert_status_t status;  // of Init, which cannot fail by itself
  int32_t length;           // S
  int scratch;
};

size_t ScratchSize(const embbert_scan_t& scan) {
  return EMBBERT_SCAN_SCRATCH_BYTES(static_cast<size_t>(scan.channels),
                                    static_cast<size_t>(scan.states));
}

void* ScanInit(TfLiteContext* context, const char* buffer, size_t length) {
  return InitWith<ScanData>(context, buffer, length, embbert_scan_init);
}

TfLiteStatus ScanPrepare(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<ScanData*>(node->user_data);
  TF_LITE_ENSURE_STATUS(
      CheckInit("EMBBERT_SELECTIVE_SCAN", data, data == nullptr ? EMBBERT_OK : data->status));
  TF_LITE_ENSURE_EQ(context, tflite::NumInputs(node), kScanInputs);
  TF_LITE_ENSURE_EQ(context, tflite::NumOutputs(node), 1);
  embbert_scan_t& scan = data->params;

  tflite::MicroContext* micro = tflite::GetMicroContext(context);
  TfLiteTensor* u = micro->AllocateTempInputTensor(node, kScanU);
  TF_LITE_ENSURE(context, u != nullptr);
  const int64_t count = tflite::NumElements(u);
  micro->DeallocateTempTfLiteTensor(u);
  TF_LITE_ENSURE(context, count > 0 && count <= int64_t{EMBBERT_MAX_LENGTH} * scan.channels &&
                              count % scan.channels == 0);
  data->length = static_cast<int32_t>(count / scan.channels);
  const int64_t rows = int64_t{data->length} * scan.states;
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kScanU, false, kTfLiteInt8, count));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kScanSteps, false, kTfLiteInt8, count));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kScanStateIn, false, kTfLiteInt8, rows));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kScanStateOut, false, kTfLiteInt8, rows));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kOutput, true, kTfLiteInt8, count));
  scan.decay = Constant<int32_t>(context, node, kScanDecay, scan.channels * scan.states);
  scan.skip = Constant<int32_t>(context, node, kScanSkip, scan.channels);
  TF_LITE_ENSURE(context, scan.decay != nullptr && scan.skip != nullptr);
  return context->RequestScratchBufferInArena(context, ScratchSize(scan), &data->scratch);
}

const int8_t* Rows(TfLiteContext* context, TfLiteNode* node, int index) {
  return tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalInput(context, node, index));
}

TfLiteStatus ScanEval(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<ScanData*>(node->user_data);
  const embbert_status_t status = embbert_scan(
      &data->params, Rows(context, node, kScanU), Rows(context, node, kScanSteps),
      Rows(context, node, kScanStateIn), Rows(context, node, kScanStateOut), data->length,
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalOutput(context, node, kOutput)),
      context->GetScratchBuffer(context, data->scratch), ScratchSize(data->params));
  if (status == EMBBERT_OK) return kTfLiteOk;
  MicroPrintf("EMBBERT_SELECTIVE_SCAN: error %d", static_cast<int>(status));
  return kTfLiteError;
}

}  // namespace

const TFLMRegistration* Register_SELECTIVE_SCAN() {
  static TFLMRegistration registration;
  registration = Registration(ScanInit, ScanPrepare, ScanEval);
  return &registration;
}

}  // namespace embbert
