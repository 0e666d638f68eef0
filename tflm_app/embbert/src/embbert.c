#include "embbert.h"

#include <string.h>

#include "embbert_backend.h"
#include "embbert_image.h"
#include "embbert_labels.h"

// What `state` is in an open engine: no likely value of memory that nobody has set.
static const uint32_t kOpen = 0x4F50454Eu;

static const void* section_of(const embbert_engine_t* engine, embbert_section_t kind,
                              uint32_t index, size_t expected) {
  size_t size;
  const void* section = embbert_image_section(&engine->image, kind, index, &size);
  return size == expected ? section : NULL;
}

#ifndef EMBBERT_OTHER_BACKEND

// Biases that no 32-bit sum of products can carry over the edge: |products| < 2^29 for every shape
// that the kernels take.
static bool biases_fit(const int32_t* bias, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (bias[i] > 0x40000000 || bias[i] < -0x40000000) return false;
  }
  return true;
}

static int open_embed(embbert_engine_t* engine) {
  embbert_embed_t* const embed = &engine->model.embed;
  size_t size;
  const void* options =
      embbert_image_section(&engine->image, kEmbbertSectionEmbedOptions, 0, &size);
  if (options == NULL) return kEmbbertSection;
  if (embbert_embed_init(embed, options, size) != EMBBERT_OK) return kEmbbertOptions;
  const size_t v = (size_t)embed->vocab_size;
  const size_t s = (size_t)embed->max_length;
  const size_t r = (size_t)embed->reduced;
  const size_t d = (size_t)embed->hidden;
  const size_t token_row = EMBBERT_TOKEN_ROW_BYTES(r, (size_t)embed->token_bits);
  const size_t bits = (size_t)embed->weight_bits;
  embed->token = section_of(engine, kEmbbertSectionEmbedToken, 0, v * token_row);
  embed->position = section_of(engine, kEmbbertSectionEmbedPosition, 0, s * r);
  embed->weight =
      section_of(engine, kEmbbertSectionEmbedWeight, 0, EMBBERT_WEIGHT_BYTES(d, 2 * r, bits));
  embed->bias = section_of(engine, kEmbbertSectionEmbedBias, 0, 2 * d * sizeof(int32_t));
  const bool complete = embed->token != NULL && embed->position != NULL && embed->weight != NULL &&
                        embed->bias != NULL;
  if (!complete) return kEmbbertSection;
  return biases_fit(embed->bias, 2 * d) ? kEmbbertOk : kEmbbertShapes;
}

static int open_block(embbert_engine_t* engine, embbert_block_t* block, uint32_t index) {
  size_t size;
  const void* options =
      embbert_image_section(&engine->image, kEmbbertSectionBlockOptions, index, &size);
  if (options == NULL) return kEmbbertSection;
  if (embbert_block_init(block, options, size) != EMBBERT_OK) return kEmbbertOptions;
  if (block->hidden != engine->model.embed.hidden) return kEmbbertShapes;
  const size_t d = (size_t)block->hidden;
  const size_t inner = d * (size_t)block->expansion;
  const size_t bits = (size_t)block->weight_bits;
  const size_t square = EMBBERT_WEIGHT_BYTES(d, d, bits);
  block->wq = section_of(engine, kEmbbertSectionBlockWq, index, square);
  block->bq = section_of(engine, kEmbbertSectionBlockBq, index, d * sizeof(int32_t));
  block->wv = section_of(engine, kEmbbertSectionBlockWv, index, square);
  block->conv = section_of(engine, kEmbbertSectionBlockConv, index, (size_t)block->taps * inner);
  block->conv_bias =
      section_of(engine, kEmbbertSectionBlockConvBias, index, inner * sizeof(int32_t));
  block->wz =
      section_of(engine, kEmbbertSectionBlockWz, index, EMBBERT_WEIGHT_BYTES(d, inner, bits));
  block->bz = section_of(engine, kEmbbertSectionBlockBz, index, d * sizeof(int32_t));
  const bool complete = block->wq != NULL && block->bq != NULL && block->wv != NULL &&
                        block->conv != NULL && block->conv_bias != NULL && block->wz != NULL &&
                        block->bz != NULL;
  if (!complete) return kEmbbertSection;
  const bool fit =
      biases_fit(block->bq, d) && biases_fit(block->conv_bias, inner) && biases_fit(block->bz, d);
  return fit ? kEmbbertOk : kEmbbertShapes;
}

static int open_head(embbert_engine_t* engine) {
  embbert_head_t* const head = &engine->model.head;
  size_t size;
  const void* options = embbert_image_section(&engine->image, kEmbbertSectionHeadOptions, 0, &size);
  if (options == NULL) return kEmbbertSection;
  if (embbert_head_init(head, options, size) != EMBBERT_OK) return kEmbbertOptions;
  if (head->hidden != engine->model.embed.hidden || head->labels != engine->config.labels) {
    return kEmbbertShapes;
  }
  const size_t labels = (size_t)head->labels;
  const size_t bits = (size_t)head->weight_bits;
  head->weight = section_of(engine, kEmbbertSectionHeadWeight, 0,
                            EMBBERT_WEIGHT_BYTES(labels, (size_t)head->hidden, bits));
  head->bias = section_of(engine, kEmbbertSectionHeadBias, 0, labels * sizeof(int32_t));
  if (head->weight == NULL || head->bias == NULL) return kEmbbertSection;
  return biases_fit(head->bias, labels) ? kEmbbertOk : kEmbbertShapes;
}

#endif  // EMBBERT_OTHER_BACKEND

enum { kMostNumbers = 1024 };  // of an encoder's row, so that no sum of products overflows

// As many strings as labels, the last one terminated; none in an encoder.
static bool labels_are_complete(const char* labels, size_t size, const embbert_config_t* config) {
  if (config->task == kEmbbertEncoder) return size == 0;
  const int32_t count = config->labels;
  int32_t found = 0;
  for (size_t i = 0; i < size; i++) found += labels[i] == '\0';
  return size > 0 && labels[size - 1] == '\0' && found == count;
}

#ifndef EMBBERT_OTHER_BACKEND

// What the engine's memory holds: block descriptions, ids, segments, logits, then what a
// tokenization and an inference need in turn. Sets the sizes, and looks at nothing but options.
static int measure_memory(embbert_engine_t* engine) {
  const size_t tokens = (size_t)engine->max_tokens;
  size_t most_scratch = 0;
  for (int32_t i = 0; i < engine->config.blocks; i++) {
    embbert_block_t block;
    size_t size;
    const void* options =
        embbert_image_section(&engine->image, kEmbbertSectionBlockOptions, (uint32_t)i, &size);
    if (options == NULL) return kEmbbertSection;
    if (embbert_block_init(&block, options, size) != EMBBERT_OK) return kEmbbertOptions;
    const size_t scratch = embbert_block_scratch_size(&block, engine->max_tokens);
    if (scratch > most_scratch) most_scratch = scratch;
  }
  engine->memory_needed =
      EMBBERT_ENGINE_MEMORY_BYTES((size_t)engine->config.blocks, (size_t)engine->config.labels,
                                  (size_t)engine->model.embed.hidden, tokens, most_scratch);
  return kEmbbertOk;
}

static int open_memory(embbert_engine_t* engine, void* memory, size_t memory_size) {
  int status = measure_memory(engine);
  if (status != kEmbbertOk) return status;
  if (memory == NULL || (uintptr_t)memory % 8 != 0 || memory_size < engine->memory_needed) {
    return kEmbbertMemory;
  }
  const size_t tokens = (size_t)engine->max_tokens;
  embbert_block_t* const blocks = memory;
  for (int32_t i = 0; i < engine->config.blocks; i++) {
    status = open_block(engine, &blocks[i], (uint32_t)i);
    if (status != kEmbbertOk) return status;
  }
  engine->model.blocks = blocks;
  engine->model.num_blocks = engine->config.blocks;
  uint8_t* next = memory;
  next += EMBBERT_ROUND_UP((size_t)engine->config.blocks * sizeof(embbert_block_t), 8u);
  engine->ids = (uint16_t*)(void*)next;
  next += EMBBERT_ROUND_UP(2u * tokens, 8u);
  engine->segments = next;
  next += EMBBERT_ROUND_UP(tokens, 8u);
  engine->logits = (int8_t*)next;
  next += EMBBERT_ROUND_UP((size_t)engine->config.labels, 8u);
  engine->work = next;
  engine->work_size = memory_size - (size_t)(next - (uint8_t*)memory);
  return kEmbbertOk;
}

#endif  // EMBBERT_OTHER_BACKEND

// Labels, confidences and what else is the same for every backend.
static int open_config(embbert_engine_t* engine) {
  const embbert_config_t* config = section_of(engine, kEmbbertSectionConfig, 0, sizeof(*config));
  engine->confidence = section_of(engine, kEmbbertSectionConfidence, 0, 256 * sizeof(uint32_t));
  size_t labels_size;
  engine->labels = embbert_image_section(&engine->image, kEmbbertSectionLabels, 0, &labels_size);
  engine->source =
      embbert_image_section(&engine->image, kEmbbertSectionSource, 0, &engine->source_size);
  if (config == NULL || engine->confidence == NULL || engine->labels == NULL) {
    return kEmbbertSection;
  }
  engine->config = *config;
  if (config->blocks < 1 || config->blocks > EMBBERT_MAX_BLOCKS || config->labels < 1 ||
      config->task < 0 || config->task > kEmbbertEncoder ||
      config->labels > (config->task == kEmbbertEncoder ? kMostNumbers : 0xFFFF) ||
      config->pair < 0 || config->pair > 1 || config->logits_zero < -128 ||
      config->logits_zero > 127 || config->score_multiplier < 0 || config->score_shift < 0 ||
      config->score_shift > 24 || !labels_are_complete(engine->labels, labels_size, config)) {
    return kEmbbertShapes;
  }
  for (int i = 0; i < 256; i++) {
    // A sum of 65535 of them fits 32 bits, and that of a softmax begins with 65536.
    if (engine->confidence[i] > 65536u) return kEmbbertShapes;
  }
  return engine->confidence[0] == 65536u ? kEmbbertOk : kEmbbertShapes;
}

static int open_tokenizer(embbert_engine_t* engine) {
  size_t size;
  const void* blob = embbert_image_section(&engine->image, kEmbbertSectionTokenizer, 0, &size);
  if (blob == NULL) return kEmbbertSection;
  if (embbert_tokenizer_init(&engine->tokenizer, blob, size) != EMBBERT_TOKENIZER_OK) {
    return kEmbbertTokenizerTables;
  }
  // A vocabulary larger than the embedding table would give ids that the embedder refuses.
  const bool fits = engine->tokenizer.vocab_size <= engine->model.embed.vocab_size;
  return fits ? kEmbbertOk : kEmbbertShapes;
}

static int set_options(embbert_engine_t* engine, const embbert_options_t* options) {
  engine->max_tokens = engine->model.embed.max_length;
  if (engine->max_tokens < 2) return kEmbbertShapes;
  if (options == NULL) return kEmbbertOk;
  if (options->max_tokens != 0 && options->max_tokens < 2) return kEmbbertArgument;
  if (options->max_tokens != 0 && options->max_tokens < engine->max_tokens) {
    engine->max_tokens = options->max_tokens;
  }
  engine->hook = (embbert_hook_t){options->progress, options->context};
  return kEmbbertOk;
}

int embbert_engine_open(embbert_engine_t* engine, const void* image, size_t image_capacity,
                        void* memory, size_t memory_size, const embbert_options_t* options) {
  if (engine == NULL) return kEmbbertArgument;
  memset(engine, 0, sizeof(*engine));
  if (image == NULL) return kEmbbertArgument;
  const embbert_image_status_t image_status =
      embbert_image_open(&engine->image, image, image_capacity);
  if (image_status != kEmbbertImageOk) return kEmbbertImage + (int)image_status - 1;
  int status = open_config(engine);
#ifdef EMBBERT_OTHER_BACKEND
  if (status == kEmbbertOk) status = embbert_backend_shape(engine);
#else
  if (status == kEmbbertOk) status = open_embed(engine);
  if (status == kEmbbertOk) status = open_head(engine);
#endif
  if (status == kEmbbertOk) status = open_tokenizer(engine);
  if (status == kEmbbertOk) status = set_options(engine, options);
#ifdef EMBBERT_OTHER_BACKEND
  if (status == kEmbbertOk) status = embbert_backend_open(engine, memory, memory_size);
#else
  if (status == kEmbbertOk) status = open_memory(engine, memory, memory_size);
#endif
  if (status == kEmbbertOk) engine->state = kOpen;
  return status;
}

bool embbert_engine_is_open(const embbert_engine_t* engine) {
  return engine != NULL && engine->state == kOpen;
}

int embbert_engine_tokenize(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, const uint16_t** ids,
                            size_t* count) {
  if (engine == NULL || text == NULL || ids == NULL || count == NULL) return kEmbbertArgument;
  if (engine->state != kOpen) return kEmbbertClosed;
  if (pair != NULL && engine->config.pair == 0) return kEmbbertArgument;
  const int status =
      embbert_tokenizer_encode(&engine->tokenizer, text, length, pair, pair_length, engine->ids,
                               (size_t)engine->max_tokens, count, engine->work);
  if (status != EMBBERT_TOKENIZER_OK) return kEmbbertTokenizerTables;
  *ids = engine->ids;
  return kEmbbertOk;
}

// Softmax at the largest logit, whose own term is the table's first entry, 65536.
static uint32_t confidence_at(const embbert_engine_t* engine, int32_t label) {
  uint32_t sum = 65536;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    if (i != label) sum += engine->confidence[engine->logits[label] - engine->logits[i]];
  }
  return (10000u * 65536u + sum / 2) / sum;
}

int embbert_engine_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count,
                         embbert_result_t* result) {
  if (engine == NULL || ids == NULL || result == NULL) return kEmbbertArgument;
  if (engine->state != kOpen) return kEmbbertClosed;
  if (count < 1 || count > (size_t)engine->max_tokens) return kEmbbertTokens;
  uint8_t segment = 1;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] == EMBBERT_TOKENIZER_SEP) segment = 2;
    engine->segments[i] = segment;
  }
#ifdef EMBBERT_OTHER_BACKEND
  if (engine->hook.call != NULL && engine->hook.call(engine->hook.context) != 0) {
    return kEmbbertAborted;
  }
  const int status = embbert_backend_infer(engine, ids, count);
  if (status != kEmbbertOk) return status;
#else
  // The buffers of so many tokens, and all the rest is scratch: more of it makes the kernels
  // faster.
  const size_t buffer_size = embbert_buffer_size(&engine->model, (int32_t)count);
  int8_t* const buffers = engine->work;
  const embbert_status_t status = embbert_infer(
      &engine->model, ids, engine->segments, (int32_t)count, buffers, buffers + buffer_size,
      buffers + 2 * buffer_size, engine->work_size - 2 * buffer_size, engine->logits,
      engine->hook.call != NULL ? &engine->hook : NULL);
  if (status == EMBBERT_ERROR_ABORTED) return kEmbbertAborted;
  if (status == EMBBERT_ERROR_ID) return kEmbbertTokens;
  if (status != EMBBERT_OK) return kEmbbertShapes;
#endif

  memset(result, 0, sizeof(*result));
  result->tokens = (int32_t)count;
  result->logits = engine->logits;
  result->name = engine->labels;
  if (engine->config.task == kEmbbertEncoder) {
    embbert_labels_answer(engine, result);
    return kEmbbertOk;
  }
  if (engine->config.task == kEmbbertRegression) {
    const int64_t logit = engine->logits[0] - engine->config.logits_zero;
    const int64_t unit = (int64_t)1 << engine->config.score_shift;
    result->score = logit * engine->config.score_multiplier * unit / 65536;
    result->sure = true;
    return kEmbbertOk;
  }
  for (int32_t i = 1; i < engine->config.labels; i++) {
    if (engine->logits[i] > engine->logits[result->label]) result->label = i;
  }
  for (int32_t i = 0; i < result->label; i++) result->name += strlen(result->name) + 1;
  result->confidence = confidence_at(engine, result->label);
  result->sure = (int32_t)result->confidence >= engine->config.threshold;
  return kEmbbertOk;
}

int embbert_engine_classify(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, embbert_result_t* result) {
  const uint16_t* ids;
  size_t count;
  const int status = embbert_engine_tokenize(engine, text, length, pair, pair_length, &ids, &count);
  return status == kEmbbertOk ? embbert_engine_infer(engine, ids, count, result) : status;
}

const char* embbert_engine_source(const embbert_engine_t* engine, int index) {
  if (!embbert_engine_is_open(engine) || engine->source == NULL) return "";
  const char* string = engine->source;
  const char* const end = string + engine->source_size;
  if (string == end || end[-1] != '\0') return "";
  for (; index > 0 && string < end; index--) string += strlen(string) + 1;
  return string < end ? string : "";
}

const char* embbert_engine_message(int status) {
#ifdef EMBBERT_OTHER_BACKEND
  if (status == kEmbbertMemory || status == kEmbbertRuntime) return embbert_backend_message(status);
#endif
  switch (status) {
    case kEmbbertOk:
      return "no error";
    case kEmbbertImage + kEmbbertImageTooShort - 1:
      return "the model image is cut short; write it again";
    case kEmbbertImage + kEmbbertImageMisplaced - 1:
      return "the model image is not at a multiple of 16; mend the linker script";
    case kEmbbertImage + kEmbbertImageMagic - 1:
      return "there is no model image; write one";
    case kEmbbertImage + kEmbbertImageVersion - 1:
      return "the model image has another layout version; make it anew with this firmware";
    case kEmbbertImage + kEmbbertImageChecksum - 1:
      return "the model image is damaged (checksum); write it again";
    case kEmbbertImage + kEmbbertImageTable - 1:
      return "the model image contradicts itself; make it anew";
    case kEmbbertSection:
      return "the model image lacks a section, or has one of the wrong size; make it anew";
    case kEmbbertOptions:
      return "the kernels do not accept the model's options; make the image anew";
    case kEmbbertShapes:
      return "parts of the model image do not fit one another; make it anew";
    case kEmbbertMemory:
      return "the model needs more memory than it was given, or memory at a multiple of 8";
    case kEmbbertTokenizerTables:
      return "the tokenizer's tables are not valid; make the image anew";
    case kEmbbertTokens:
      return "no token, too many tokens, or a token outside the vocabulary";
    case kEmbbertArgument:
      return "a null pointer, options out of range, or a pair for a model of single texts";
    case kEmbbertClosed:
      return "the model is not open";
    case kEmbbertAborted:
      return "stopped by the program";
    case kEmbbertNoEncoder:
      return "this model has labels of its own; only an encoder learns others";
    case kEmbbertLabelMemory:
      return "there is no table of labels, or too little memory for one, or not at a multiple of 4";
    case kEmbbertLabelDamaged:
      return "the table of labels is damaged or cut short; teach the labels again";
    case kEmbbertLabelModel:
      return "the table of labels is of another model; teach this one its labels";
    case kEmbbertLabelFull:
      return "there is no room for one more label; forget one";
    case kEmbbertLabelName:
      return "a label's name has 1 to 23 bytes";
    case kEmbbertLabelUnknown:
      return "there is no label of that name";
    case kEmbbertLabelSentences:
      return "the label has learnt 255 sentences, the most that it can";
    case kEmbbertLabelText:
      return "the model says nothing of this text; take another one";
    default:
      return "an unknown error";
  }
}
