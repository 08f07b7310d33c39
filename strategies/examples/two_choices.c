/* two_choices.c: draws two backends at random and picks the one with fewer requests in flight. Plain C, no Rust.
 *
 * Why it exists: as a strategy in C to copy. two-choices/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libtwo_choices.so two_choices.c
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host.
 * Live numbers are read atomically, because other threads write them at the same time. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy { const lb_host *host; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  /* This strategy has no options, so any key in the JSON object is a mistake. */
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("two_choices has no options");
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

static uint32_t in_flight(const lb_backends *backends, uint32_t index) {
  return __atomic_load_n(&LB_BACKEND(backends, index)->stats->in_flight, __ATOMIC_RELAXED);
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker;
  uint64_t n = lb_candidate_count(backends, request);
  if (n == 0) return LB_NONE;
  /* Two draws from 64 random bits. The second is one of the n - 1 others. */
  uint64_t first = ((request->rand >> 32) * n) >> 32;
  uint64_t second = (first + 1 + (((request->rand & 0xFFFFFFFFu) * (n - 1)) >> 32)) % n;
  uint32_t one = lb_candidate(backends, request, (uint32_t)first);
  uint32_t other = lb_candidate(backends, request, (uint32_t)second);
  out->index = in_flight(backends, other) < in_flight(backends, one) ? other : one;
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads the slice of eligible backends */
    .name = TEXT("two_choices"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .expectation = TEXT("{\"balance\":\"by_load\"}"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
