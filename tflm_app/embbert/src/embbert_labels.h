// Labels that an encoder learns on the device. Not for applications, which find theirs in
// embbert.h.
//
// A table is flat, its numbers little-endian, and lies where the program put it. Header of 32
// bytes: magic "EBLT", version of the layout, length of the whole table, CRC-32 (zlib's, of all but
// these four bytes), the CRC-32 of the model's image, numbers of a row, labels, one zero. Then the
// labels, EMBBERT_LABEL_BYTES each: the name, filled with zeros; uint16 sentences; uint16 zero; the
// sum of its sentences' rows, each of length 127, (width) int16; zeros up to a multiple of 4.
// converters/kernels/labels.py computes and writes the same.

#ifndef EMBBERT_LABELS_H_
#define EMBBERT_LABELS_H_

#include "embbert.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMBBERT_LABELS_MAGIC 0x544C4245u  // "EBLT"
#define EMBBERT_LABELS_VERSION 1u

// Fills label, name, confidence and sure of an encoder's result from the row in engine->logits.
void embbert_labels_answer(const embbert_engine_t* engine, embbert_result_t* result);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_LABELS_H_
