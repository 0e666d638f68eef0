#include "embbert_labels.h"

#include <string.h>

#include "embbert_image.h"

// Lengths of 127, of which 255 sentences add up within int16.
enum { kUnit = 127, kCrcAt = 12 };

typedef struct {
  uint32_t magic;
  uint32_t version;
  uint32_t size;  // of the whole table, header included
  uint32_t crc;
  uint32_t model;  // CRC-32 of the image
  uint32_t width;
  uint32_t labels;
  uint32_t zero;
} header_t;

typedef struct {
  char name[EMBBERT_LABEL_NAME_BYTES];
  uint16_t sentences;
  uint16_t zero;
  int16_t sum[];
} entry_t;

// The table is the program's memory, at a multiple of 4; nothing else aliases it.
static header_t* header_of(const embbert_engine_t* engine) { return engine->labels_table; }

static size_t entry_bytes(const embbert_engine_t* engine) {
  return EMBBERT_LABEL_BYTES((size_t)engine->config.labels);
}

static entry_t* entry_at(const embbert_engine_t* engine, uint32_t index) {
  uint8_t* const start = engine->labels_table;
  return (entry_t*)(void*)(start + EMBBERT_LABELS_HEADER_BYTES + index * entry_bytes(engine));
}

static uint32_t checksum(const void* table, uint32_t size) {
  const uint8_t* const bytes = table;
  const uint32_t crc = embbert_image_crc32(0, bytes, kCrcAt);
  return embbert_image_crc32(crc, bytes + kCrcAt + 4, size - kCrcAt - 4);
}

// What tells a model from all others: its image's own checksum.
static uint32_t model_of(const embbert_engine_t* engine) {
  uint32_t crc;
  memcpy(&crc, engine->image.bytes + kCrcAt, sizeof(crc));
  return crc;
}

static void seal(const embbert_engine_t* engine) {
  header_t* const header = header_of(engine);
  header->size =
      (uint32_t)(EMBBERT_LABELS_HEADER_BYTES + (size_t)header->labels * entry_bytes(engine));
  header->crc = checksum(header, header->size);
}

// Largest integer whose square is at most `value`.
static uint32_t square_root(uint64_t value) {
  uint64_t root = 0;
  for (uint64_t bit = (uint64_t)1 << 62; bit != 0; bit >>= 2) {
    if (value >= root + bit) {
      value -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return (uint32_t)root;
}

// value / divisor, rounded, halves away from 0; divisor > 0.
static int64_t divided(int64_t value, int64_t divisor) {
  const int64_t half = divisor / 2;
  return value < 0 ? -((-value + half) / divisor) : (value + half) / divisor;
}

// 256 times the length of the row in engine->logits.
static int64_t row_length(const embbert_engine_t* engine) {
  uint64_t squares = 0;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    const int32_t x = engine->logits[i] - engine->config.logits_zero;
    squares += (uint32_t)(x * x);
  }
  return square_root(squares << 16);
}

// Cosine of the row and the label's sum in 1/10000. Within int64 whatever the table holds: the
// product is at most that of the lengths, 2^13 and 2^20.
static int32_t similarity(const embbert_engine_t* engine, const entry_t* entry, int64_t length) {
  int64_t product = 0;
  uint64_t squares = 0;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    const int32_t x = engine->logits[i] - engine->config.logits_zero;
    const int32_t y = entry->sum[i];
    product += (int64_t)x * y;
    squares += (uint64_t)((int64_t)y * y);
  }
  const int64_t lengths = length * square_root(squares << 16);
  return lengths == 0 ? 0 : (int32_t)divided(product * (10000 * (int64_t)65536), lengths);
}

void embbert_labels_answer(const embbert_engine_t* engine, embbert_result_t* result) {
  result->label = -1;
  result->name = "";
  if (engine->labels_table == NULL) return;
  const int64_t length = row_length(engine);
  int32_t best = 0;
  for (uint32_t i = 0; i < header_of(engine)->labels; i++) {
    const int32_t found = similarity(engine, entry_at(engine, i), length);
    if (result->label >= 0 && found <= best) continue;
    best = found;
    result->label = (int32_t)i;
    result->name = entry_at(engine, i)->name;
  }
  result->confidence = best < 0 ? 0 : (uint32_t)best;
  result->sure = result->label >= 0 && best >= engine->config.threshold;
}

// ---- What the program calls --------------------------------------------------------------------

static int check_encoder(const embbert_engine_t* engine) {
  if (engine == NULL) return kEmbbertArgument;
  if (!embbert_engine_is_open(engine)) return kEmbbertClosed;
  return engine->config.task == kEmbbertEncoder ? kEmbbertOk : kEmbbertNoEncoder;
}

static int check_table(const embbert_engine_t* engine) {
  const int status = check_encoder(engine);
  if (status != kEmbbertOk) return status;
  return engine->labels_table != NULL ? kEmbbertOk : kEmbbertLabelMemory;
}

static int check_memory(const embbert_engine_t* engine, const void* memory) {
  const int status = check_encoder(engine);
  if (status != kEmbbertOk) return status;
  return memory != NULL && (uintptr_t)memory % 4 == 0 ? kEmbbertOk : kEmbbertLabelMemory;
}

int embbert_engine_new_labels(embbert_engine_t* engine, void* memory, size_t bytes) {
  const int status = check_memory(engine, memory);
  if (status != kEmbbertOk) return status;
  if (bytes < EMBBERT_LABELS_HEADER_BYTES) return kEmbbertLabelMemory;
  engine->labels_table = memory;
  engine->labels_capacity = bytes;
  *header_of(engine) = (header_t){.magic = EMBBERT_LABELS_MAGIC,
                                  .version = EMBBERT_LABELS_VERSION,
                                  .model = model_of(engine),
                                  .width = (uint32_t)engine->config.labels};
  seal(engine);
  return kEmbbertOk;
}

static bool name_is_sound(const char* name) {
  size_t length = 0;
  while (length < EMBBERT_LABEL_NAME_BYTES && name[length] != '\0') length++;
  return length > 0 && length < EMBBERT_LABEL_NAME_BYTES;
}

// Whether a label's sum is one that so many sentences can make: one that is not would overflow when
// it learns on.
static bool sum_is_sound(const embbert_engine_t* engine, const entry_t* entry) {
  const int32_t most = kUnit * entry->sentences;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    if (entry->sum[i] < -most || entry->sum[i] > most) return false;
  }
  return true;
}

int embbert_engine_load_labels(embbert_engine_t* engine, void* memory, size_t bytes) {
  const int status = check_memory(engine, memory);
  if (status != kEmbbertOk) return status;
  if (bytes < EMBBERT_LABELS_HEADER_BYTES) return kEmbbertLabelDamaged;
  const header_t* const header = memory;
  if (header->magic != EMBBERT_LABELS_MAGIC || header->version != EMBBERT_LABELS_VERSION ||
      header->size < EMBBERT_LABELS_HEADER_BYTES || header->size > bytes ||
      checksum(header, header->size) != header->crc) {
    return kEmbbertLabelDamaged;
  }
  if (header->model != model_of(engine) || header->width != (uint32_t)engine->config.labels) {
    return kEmbbertLabelModel;
  }
  // The sum holds; what follows guards against a table made wrong, or made to harm.
  const size_t room = header->size - EMBBERT_LABELS_HEADER_BYTES;
  if (header->zero != 0 || room % entry_bytes(engine) != 0 ||
      room / entry_bytes(engine) != header->labels) {
    return kEmbbertLabelDamaged;
  }
  const uint8_t* at = (const uint8_t*)memory + EMBBERT_LABELS_HEADER_BYTES;
  for (uint32_t i = 0; i < header->labels; i++, at += entry_bytes(engine)) {
    const entry_t* const entry = (const entry_t*)(const void*)at;
    if (!name_is_sound(entry->name) || entry->sentences < 1 ||
        entry->sentences > EMBBERT_LABEL_SENTENCES || !sum_is_sound(engine, entry)) {
      return kEmbbertLabelDamaged;
    }
  }
  engine->labels_table = memory;
  engine->labels_capacity = bytes;
  return kEmbbertOk;
}

// Whether two names are the same; the library asks no strcmp of a program.
static bool same_name(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) a++, b++;
  return *a == *b;
}

// Index of the label of that name, or how many labels there are.
static uint32_t find(const embbert_engine_t* engine, const char* label) {
  uint32_t i = 0;
  while (i < header_of(engine)->labels && !same_name(entry_at(engine, i)->name, label)) i++;
  return i;
}

int embbert_engine_learn(embbert_engine_t* engine, const char* label, const char* text,
                         size_t length) {
  int status = check_table(engine);
  if (status != kEmbbertOk) return status;
  if (label == NULL || text == NULL) return kEmbbertArgument;
  if (!name_is_sound(label)) return kEmbbertLabelName;
  header_t* const header = header_of(engine);
  const uint32_t index = find(engine, label);
  entry_t* const entry = entry_at(engine, index);
  const bool is_new = index == header->labels;
  if (is_new && engine->labels_capacity - header->size < entry_bytes(engine)) {
    return kEmbbertLabelFull;
  }
  if (!is_new && entry->sentences == EMBBERT_LABEL_SENTENCES) return kEmbbertLabelSentences;

  embbert_result_t result;
  status = embbert_engine_classify(engine, text, length, NULL, 0, &result);
  if (status != kEmbbertOk) return status;
  const int64_t row = row_length(engine);
  if (row == 0) return kEmbbertLabelText;
  if (is_new) {
    memset(entry, 0, entry_bytes(engine));
    memcpy(entry->name, label, strlen(label));
    header->labels++;
  }
  for (int32_t i = 0; i < engine->config.labels; i++) {
    const int64_t x = engine->logits[i] - engine->config.logits_zero;
    entry->sum[i] = (int16_t)(entry->sum[i] + divided(x * (kUnit * 256), row));
  }
  entry->sentences++;
  seal(engine);
  return kEmbbertOk;
}

int embbert_engine_forget(embbert_engine_t* engine, const char* label) {
  const int status = check_table(engine);
  if (status != kEmbbertOk) return status;
  if (label == NULL) return kEmbbertArgument;
  header_t* const header = header_of(engine);
  const uint32_t index = find(engine, label);
  if (index == header->labels) return kEmbbertLabelUnknown;
  header->labels--;
  memmove(entry_at(engine, index), entry_at(engine, index + 1),
          (size_t)(header->labels - index) * entry_bytes(engine));
  seal(engine);
  return kEmbbertOk;
}

size_t embbert_engine_labels_bytes(const embbert_engine_t* engine) {
  return check_table(engine) == kEmbbertOk ? header_of(engine)->size : 0;
}

int32_t embbert_engine_label_count(const embbert_engine_t* engine) {
  if (!embbert_engine_is_open(engine)) return 0;
  if (engine->config.task != kEmbbertEncoder) return engine->config.labels;
  return engine->labels_table != NULL ? (int32_t)header_of(engine)->labels : 0;
}

const char* embbert_engine_label(const embbert_engine_t* engine, int32_t index,
                                 int32_t* sentences) {
  if (sentences != NULL) *sentences = 0;
  if (index < 0 || index >= embbert_engine_label_count(engine)) return "";
  if (engine->config.task == kEmbbertEncoder) {
    const entry_t* const entry = entry_at(engine, (uint32_t)index);
    if (sentences != NULL) *sentences = entry->sentences;
    return entry->name;
  }
  const char* name = engine->labels;
  for (; index > 0; index--) name += strlen(name) + 1;
  return name;
}
