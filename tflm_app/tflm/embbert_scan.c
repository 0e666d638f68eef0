#include "embbert_scan.h"

#include <string.h>

#include "kernels/embbert_internal.h"

#define SCAN_MAGIC 0x314E4353  // "SCN1"

enum {
  kScalars = 11,
  kDeltas = 256,
  kDifferenceShift = 23,  // by which a difference of two int8 still fits 32 bits
  kPlaceBits = 25,        // of a place between two entries of the table
  kOctaveBits = 5,
};

typedef struct __attribute__((may_alias)) {
  int32_t first, second;
} pair_t;

// 2^(-i/128) and what it falls by to the next entry; a test holds the table against DECAY_TABLE of
// converters/kernels/selective_scan.py.
// clang-format off
static const pair_t decay_table[128] = {
    {2147479712, -1484496448}, {2135882084, -1476479312}, {2124347089, -1468505472}, {2112874390, -1460574696},
    {2101463650, -1452686751}, {2090114535, -1444841405}, {2078826711, -1437038428}, {2067599849, -1429277592},
    {2056433618, -1421558669}, {2045327690, -1413881433}, {2034281742, -1406245658}, {2023295448, -1398651121},
    {2012368486, -1391097598}, {2001500536, -1383584869}, {1990691279, -1376112713}, {1979940398, -1368680911},
    {1969247579, -1361289245}, {1958612506, -1353937499}, {1948034870, -1346625455}, {1937514358, -1339352902},
    {1927050664, -1332119624}, {1916643479, -1324925410}, {1906292500, -1317770049}, {1895997421, -1310653331},
    {1885757942, -1303575047}, {1875573762, -1296534990}, {1865444582, -1289532954}, {1855370106, -1282568733},
    {1845350038, -1275642122}, {1835384084, -1268752919}, {1825471952, -1261900922}, {1815613351, -1255085929},
    {1805807992, -1248307742}, {1796055588, -1241566160}, {1786355852, -1234860987}, {1776708500, -1228192026},
    {1767113250, -1221559081}, {1757569820, -1214961958}, {1748077930, -1208400463}, {1738637301, -1201874404},
    {1729247657, -1195383589}, {1719908723, -1188927828}, {1710620224, -1182506933}, {1701381889, -1176120714},
    {1692193446, -1169768984}, {1683054626, -1163451557}, {1673965160, -1157168248}, {1664924783, -1150918872},
    {1655933230, -1144703246}, {1646990236, -1138521189}, {1638095539, -1132372518}, {1629248878, -1126257054},
    {1620449995, -1120174616}, {1611698631, -1114125028}, {1602994529, -1108108110}, {1594337435, -1102123688},
    {1585727093, -1096171584}, {1577163253, -1090251626}, {1568645662, -1084363638}, {1560174071, -1078507450},
    {1551748232, -1072682888}, {1543367897, -1066889782}, {1535032820, -1061127962}, {1526742758, -1055397259},
    {1518497467, -1049697505}, {1510296705, -1044028534}, {1502140232, -1038390178}, {1494027809, -1032782272},
    {1485959197, -1027204652}, {1477934161, -1021657155}, {1469952465, -1016139617}, {1462013874, -1010651878},
    {1454118156, -1005193775}, {1446265080, -999765149}, {1438454414, -994365841}, {1430685931, -988995692},
    {1422959402, -983654545}, {1415274601, -978342243}, {1407631303, -973058631}, {1400029282, -967803554},
    {1392468317, -962576856}, {1384948185, -957378387}, {1377468666, -952207991}, {1370029541, -947065519},
    {1362630592, -941950819}, {1355271601, -936863742}, {1347952353, -931804138}, {1340672634, -926771858},
    {1333432228, -921766756}, {1326230926, -916788684}, {1319068514, -911837496}, {1311944784, -906913048},
    {1304859525, -902015195}, {1297812532, -897143793}, {1290803596, -892298699}, {1283832512, -887479772},
    {1276899076, -882686869}, {1270003085, -877919851}, {1263144336, -873178578}, {1256322629, -868462910},
    {1249537762, -863772710}, {1242789538, -859107839}, {1236077758, -854468162}, {1229402226, -849853541},
    {1222762745, -845263842}, {1216159121, -840698930}, {1209591161, -836158671}, {1203058671, -831642932},
    {1196561461, -827151581}, {1190099339, -822684485}, {1183672116, -818241515}, {1177279604, -813822539},
    {1170921616, -809427428}, {1164597964, -805056053}, {1158308464, -800708286}, {1152052930, -796384000},
    {1145831180, -792083067}, {1139643031, -787805362}, {1133488302, -783550759}, {1127366812, -779319133},
    {1121278381, -775110361}, {1115222831, -770924318}, {1109199985, -766760882}, {1103209666, -762619931},
    {1097251697, -758501344}, {1091325906, -754404999}, {1085432117, -750330777}, {1079570157, -746278559},
};
// clang-format on

static int in_range(int32_t value, int32_t low, int32_t high) {
  return value >= low && value <= high;
}

static int is_int8(int32_t value) { return in_range(value, -128, 127); }

// The largest |int8 - zero|.
static int32_t reach(int32_t zero) { return embbert_larger(127 - zero, 128 + zero); }

static int is_aligned(const void* pointer, uintptr_t alignment) {
  return pointer != NULL && ((uintptr_t)pointer & (alignment - 1)) == 0;
}

embbert_status_t embbert_scan_init(embbert_scan_t* scan, const void* options, size_t size) {
  if (scan == NULL || !is_aligned(options, 4)) return EMBBERT_ERROR_ARGUMENT;
  const int32_t* word = (const int32_t*)options;
  if (size != 4 * (2 + kScalars + kDeltas) || word[0] != SCAN_MAGIC ||
      word[1] != 2 + kScalars + kDeltas) {
    return EMBBERT_ERROR_OPTIONS;
  }
  word += 2;
  *scan = (embbert_scan_t){.channels = word[0],
                           .states = word[1],
                           .u_zero = word[2],
                           .state_in_zero = word[3],
                           .state_out_zero = word[4],
                           .y_zero = word[5],
                           .fraction = word[6],
                           .state_in_shift = word[7],
                           .state_out_shift = word[8],
                           .y_shift = word[9],
                           .y_multiplier = word[10],
                           .delta = word + kScalars};
  if (!in_range(scan->channels, 1, EMBBERT_SCAN_MAX_CHANNELS) ||
      !in_range(scan->states, 1, EMBBERT_SCAN_MAX_STATES) || !is_int8(scan->u_zero) ||
      !is_int8(scan->state_in_zero) || !is_int8(scan->state_out_zero) || !is_int8(scan->y_zero) ||
      !in_range(scan->fraction, 12, 30) || !in_range(scan->state_in_shift, 0, kDifferenceShift) ||
      !in_range(scan->state_out_shift, 0, kDifferenceShift) || !in_range(scan->y_shift, 0, 30) ||
      scan->y_multiplier < 0 ||
      ((int64_t)scan->states * reach(scan->state_out_zero) << scan->state_out_shift) > (int64_t)1
                                                                                           << 32) {
    return EMBBERT_ERROR_OPTIONS;
  }
  return EMBBERT_OK;
}

// ---- The little that differs between targets -------------------------------------------------

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SAT) && !defined(EMBBERT_FORCE_PORTABLE)

// The compiler does not find LDRD with two results by itself, and takes it for able to add an
// index.
static inline pair_t load_entry(const pair_t* from) {
  pair_t pair;
  __asm__("ldrd %0, %1, %2" : "=r"(pair.first), "=r"(pair.second) : "Q"(*from));
  return pair;
}

static inline pair_t load_next(const pair_t** from) {
  pair_t pair;
  __asm__("ldrd %0, %1, [%2], #8"
          : "=&r"(pair.first), "=&r"(pair.second), "+r"(*from)
          : "m"(**from));
  return pair;
}

static inline uint32_t rotate_right(uint32_t value, uint32_t bits) {
  uint32_t rotated;
  __asm__("ror %0, %1, %2" : "=r"(rotated) : "r"(value), "r"(bits));
  return rotated;
}

// min(octaves, 31).
static inline uint32_t saturate_octaves(uint32_t octaves) {
  uint32_t low;
  __asm__("usat %0, %1, %2" : "=r"(low) : "I"(kOctaveBits), "r"(octaves) : "cc");
  return low;
}

#else

static inline pair_t load_entry(const pair_t* from) { return *from; }

static inline pair_t load_next(const pair_t** from) { return *(*from)++; }

static inline uint32_t rotate_right(uint32_t value, uint32_t bits) {  // by 1..31
  return value >> bits | value << (32 - bits);
}

static inline uint32_t saturate_octaves(uint32_t octaves) {
  const uint32_t most = (1u << kOctaveBits) - 1;
  return octaves < most ? octaves : most;
}

#endif

// ---- The scan --------------------------------------------------------------------------------

// 2^-(delta * decay) in units of 2^-31: a straight line between two entries of the table, and the
// whole octaves as a shift.
static inline int32_t decay_of(int32_t delta, int32_t decay, uint32_t fraction) {
  const uint32_t exponent = (uint32_t)embbert_multiply_high(delta, decay);
  const uint32_t octaves = exponent >> fraction;
  // The octaves end up below everything that matters.
  const uint32_t place = rotate_right(exponent, fraction);
  const pair_t entry = load_entry(&decay_table[place >> kPlaceBits]);
  const int32_t value = embbert_multiply_high_add(
      entry.second, (int32_t)(place & ((1u << kPlaceBits) - 1)), entry.first);
  return value >> saturate_octaves(octaves);
}

// What differs from channel to channel of a token.
typedef struct {
  int32_t* state;        // (N)
  const int32_t* decay;  // (N)
  const pair_t* rows;    // (N) B and C of the token
  const pair_t* end;     // behind them
} place_t;

// Moves the states of one channel on by a token and returns the sum of their products with C. By
// itself it has the registers that it needs.
static __attribute__((noinline)) int32_t step(place_t* place, int32_t delta, int32_t stepped,
                                              uint32_t fraction) {
  int32_t* state = place->state;
  const int32_t* decay = place->decay;
  const pair_t* rows = place->rows;
  const pair_t* const end = place->end;
  int32_t total = 0;
  do {
    const int32_t kept = embbert_multiply_high(*state, decay_of(delta, *decay++, fraction));
    const pair_t row = load_next(&rows);
    const int32_t added = embbert_multiply_high(stepped, row.first);
    const int32_t moved = (int32_t)((uint32_t)added + ((uint32_t)kept << 1));
    *state++ = moved;
    total = embbert_multiply_high_add(moved, row.second, total);
  } while (rows != end);
  place->state = state;
  place->decay = decay;
  return total;
}

// A token: u, steps and y (ED).
static void scan_token(const embbert_scan_t* scan, const int8_t* u, const int8_t* steps, int8_t* y,
                       place_t* place) {
  const int32_t* const deltas = scan->delta + 128;
  const int32_t* skip = scan->skip;
  const int32_t u_zero = scan->u_zero;
  const uint32_t fraction = (uint32_t)scan->fraction;
  const int32_t y_shift = scan->y_shift;
  const int32_t y_multiplier = scan->y_multiplier;
  const int32_t limit = INT32_MAX >> y_shift;
  const int32_t half_and_zero = scan->y_zero * 256 + 128;
  const int8_t* const end = u + scan->channels;
  do {
    const int32_t delta = deltas[*steps++];
    const int32_t centred = embbert_shift_left(*u++ - u_zero, kDifferenceShift);
    const int32_t total = step(place, delta, embbert_multiply_high(delta, centred), fraction);
    const int32_t passed = embbert_multiply_high_add(centred, *skip++, half_and_zero);
    // Where the limit tells, y is saturated.
    const int32_t scaled = embbert_multiply_high_add(
        embbert_shift_left(embbert_clamp(total, -limit, limit), y_shift), y_multiplier, passed);
    *y++ = (int8_t)embbert_saturate8_of_256ths(scaled);
  } while (u != end);
}

embbert_status_t embbert_scan(const embbert_scan_t* scan, const int8_t* u, const int8_t* steps,
                              const int8_t* state_in, const int8_t* state_out, int32_t n, int8_t* y,
                              void* scratch, size_t scratch_size) {
  if (scan == NULL || u == NULL || steps == NULL || state_in == NULL || state_out == NULL ||
      y == NULL || !is_aligned(scratch, 8) || !is_aligned(scan->decay, 4) ||
      !is_aligned(scan->skip, 4)) {
    return EMBBERT_ERROR_ARGUMENT;
  }
  if (!in_range(n, 1, EMBBERT_MAX_LENGTH)) return EMBBERT_ERROR_LENGTH;
  const int32_t channels = scan->channels;
  const int32_t states = scan->states;
  if (scratch_size < EMBBERT_SCAN_SCRATCH_BYTES((size_t)channels, (size_t)states)) {
    return EMBBERT_ERROR_SCRATCH;
  }
  pair_t* const rows = (pair_t*)scratch;
  int32_t* const all_states = (int32_t*)(rows + states);  // (ED, N)
  memset(all_states, 0, 4 * (size_t)channels * (size_t)states);
  for (int32_t t = 0; t < n; t++) {
    for (int32_t i = 0; i < states; i++) {
      rows[i].first = embbert_shift_left(*state_in++ - scan->state_in_zero, scan->state_in_shift);
      rows[i].second =
          embbert_shift_left(*state_out++ - scan->state_out_zero, scan->state_out_shift);
    }
    place_t place = {all_states, scan->decay, rows, rows + states};
    scan_token(scan, u, steps, y, &place);
    u += channels;
    steps += channels;
    y += channels;
  }
  return EMBBERT_OK;
}
