/* central_queue.c: a request goes only to an idle backend. If all are busy, it waits in the pool's queue (LB_WAIT).
 *
 * Why it exists: as an example of LB_WAIT. central-queue/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libcentral_queue.so central_queue.c
 * A backend is idle if it has fewer than `most` requests in flight, an option; the default is 1. The count is read and not reserved, so
 * workers that pick at the same time may exceed it. limits.requests_in_flight_per_backend is exact.
 * Invariants: statics never change. Memory that is allocated here is freed here. Live numbers are read atomically. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy { uint32_t most; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

/* The number in {"most":N}, or 1 in {}. 0: the options are wrong. The host passes the object without spaces. */
static uint32_t read_most(lb_str config) {
  static const char before[] = "{\"most\":";
  size_t at = sizeof before - 1;
  uint64_t most = 0;
  if (config.len <= 2) return 1;
  if (config.len <= at || memcmp(config.ptr, before, at) != 0) return 0;
  for (; at < config.len && config.ptr[at] >= '0' && config.ptr[at] <= '9'; at++) {
    most = most * 10 + (config.ptr[at] - '0');
    if (most > UINT32_MAX) return 0;
  }
  return at + 1 == config.len && config.ptr[at] == '}' ? (uint32_t)most : 0;
}

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  uint32_t most = read_most(config);
  if (most == 0) {
    static const lb_str reason = TEXT("the only option is most, a whole number of at least 1");
    host->sink_write(err, reason);
    return LB_E_CONFIG;
  }
  lb_strategy *strategy = malloc(sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->most = most;
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

static int is_tried(const lb_request *request, uint32_t index) {
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 1;
  return 0;
}

/* The index of the candidate `number`, counted from 0: of those that are eligible and not tried. */
static uint32_t candidate(const lb_backends *backends, const lb_request *request, uint64_t number) {
  uint64_t i = 0;
  if (request->n_tried == 0) return backends->eligible[number];
  while (is_tried(request, backends->eligible[i]) || number-- > 0) i++;
  return backends->eligible[i];
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  uint64_t n = backends->n_eligible;
  (void)picker;
  if (request->n_tried > 0)
    for (uint32_t i = 0; i < backends->n_eligible; i++) n -= is_tried(request, backends->eligible[i]);
  if (n == 0) return LB_NONE;
  /* From a random backend on, so that an idle pool is drawn evenly. */
  uint64_t first = ((request->rand >> 32) * n) >> 32;
  for (uint64_t step = 0; step < n; step++) {
    uint32_t index = candidate(backends, request, (first + step) % n);
    if (__atomic_load_n(&LB_BACKEND(backends, index)->stats->in_flight, __ATOMIC_RELAXED) < strategy->most) {
      out->index = index;
      return LB_OK;
    }
  }
  return LB_WAIT;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads lb_backends.eligible and returns LB_WAIT */
    .name = TEXT("central_queue"),
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
