/* prefix_affinity.c: requests whose bodies begin with the same bytes go to the same backend. Plain C, no Rust.
 *
 * Why it exists: as an example of a strategy that reads the body. prefix-affinity/src/lib.rs is the same in Rust, with the same picks, and says
 * more. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libprefix_affinity.so prefix_affinity.c
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host.
 * Without a body the host's fallback picks. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define PREFIX_BYTES 8192u /* the part of the body that decides; a shorter body decides as a whole */

struct lb_strategy { const lb_host *host; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  /* This strategy has no options, so any key in the JSON object is a mistake. */
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("prefix_affinity has no options");
      host->sink_write(err, reason);
      return LB_E_CONFIG;
    }
  }
  lb_strategy *strategy = malloc(sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  *out = strategy;
  return LB_OK;
}

static void strategy_free(lb_strategy *strategy) { free(strategy); }

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)backends, (void)err;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}

static void picker_free(lb_picker *picker) { (void)picker; }

/* A permutation of the numbers that changes half of the bits for each changed bit (the end of splitmix64). */
static uint64_t mix(uint64_t number) {
  number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9u;
  number = (number ^ (number >> 27)) * 0x94D049BB133111EBu;
  return number ^ (number >> 31);
}

/* The next 8 bytes or fewer as a number, the first byte lowest. Compilers make one load of the long line. */
static uint64_t word_of(const uint8_t *b, size_t len) {
  uint64_t word = 0;
  if (len >= 8)
    return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24 | (uint64_t)b[4] << 32 |
           (uint64_t)b[5] << 40 | (uint64_t)b[6] << 48 | (uint64_t)b[7] << 56;
  for (size_t i = 0; i < len; i++) word |= (uint64_t)b[i] << (8 * i);
  return word;
}

/* The hash of a text: four sums, so that the processor can work on four words at a time. */
static uint64_t hash_of(lb_str text) {
  uint64_t sums[4] = {1, 2, 3, 4}, hash = text.len;
  for (size_t at = 0; at < text.len; at += 8) {
    uint64_t *sum = &sums[at / 8 % 4];
    uint64_t product = (*sum ^ word_of(text.ptr + at, text.len - at)) * 0x9E3779B97F4A7C15u;
    *sum = product << 29 | product >> 35;
  }
  for (int i = 0; i < 4; i++) hash = mix(hash ^ sums[i]);
  return hash;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  lb_str prefix;
  (void)strategy, (void)picker;
  if (request->part(request, LB_PART_BODY, &prefix) != 1 || prefix.len == 0) return LB_FALLBACK;
  uint64_t hash = hash_of(prefix), best = 0;
  int found = 0;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    uint64_t score = mix(hash ^ LB_BACKEND(backends, index)->id);
    if (lb_is_tried(request, index) || (found && score < best)) continue;
    found = 1, best = score, out->index = index;
  }
  return found ? LB_OK : LB_NONE;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads `part` and `eligible`, and needs `body_bytes` */
    .name = TEXT("prefix_affinity"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .expectation = TEXT("{\"balance\":\"multinomial\",\"consistent\":true}"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .body_bytes = PREFIX_BYTES,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
