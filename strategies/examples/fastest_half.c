/* fastest_half.c: most requests go to the half of the backends with the shorter latency. Plain C, no Rust.
 *
 * Why it exists: it shows ticks and metrics. A tick asks for a new picker once a second, because latencies change while the list of
 * backends stays. Two metrics say how many backends are in the half, and how many pickers were made. fastest-half/src/lib.rs is the same in
 * Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libfastest_half.so fastest_half.c
 * Invariants: a backend without a measured latency belongs to the half, so that it gets measured. One request in EXPLORES_ONE_IN may go to
 * any backend. Only the builder thread calls picker_new and metrics, so the two counts need no atomics. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define EXPLORES_ONE_IN 16u /* a power of two */

struct lb_strategy {
  const lb_host *host;
  uint32_t fast; /* backends in the half of the newest picker */
  uint64_t pickers;
};
struct lb_picker { uint32_t n, fast[]; }; /* the indexes of the half, ascending */
struct measured { uint64_t latency_ns; uint32_t index; };

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  /* This strategy has no options, so any key in the JSON object is a mistake. */
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("fastest_half has no options");
      host->sink_write(err, reason);
      return LB_E_CONFIG;
    }
  }
  lb_strategy *strategy = calloc(1, sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  *out = strategy;
  return LB_OK;
}

static void strategy_free(lb_strategy *strategy) { free(strategy); }

static int by_latency(const void *left, const void *right) {
  const struct measured *a = left, *b = right;
  if (a->latency_ns != b->latency_ns) return a->latency_ns < b->latency_ns ? -1 : 1;
  return a->index < b->index ? -1 : 1;
}

static int by_index(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return (a > b) - (a < b);
}

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  uint32_t n = 0;
  (void)err;
  lb_picker *picker = malloc(sizeof *picker + backends->n_eligible * sizeof picker->fast[0]);
  struct measured *measured = malloc((backends->n_eligible + 1) * sizeof *measured);
  if (picker == NULL || measured == NULL) {
    free(picker), free(measured);
    return LB_E_OTHER;
  }
  picker->n = 0;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    uint64_t latency_ns = __atomic_load_n(&LB_BACKEND(backends, index)->stats->ewma_latency_ns, __ATOMIC_RELAXED);
    if (latency_ns > 0) measured[n++] = (struct measured){latency_ns, index};
    else picker->fast[picker->n++] = index;
  }
  qsort(measured, n, sizeof *measured, by_latency);
  for (uint32_t i = 0; i < (n + 1) / 2; i++) picker->fast[picker->n++] = measured[i].index;
  qsort(picker->fast, picker->n, sizeof picker->fast[0], by_index);
  free(measured);
  strategy->fast = picker->n;
  strategy->pickers++;
  *out = picker;
  return LB_OK;
}

static void picker_free(lb_picker *picker) { free(picker); }

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  uint64_t draw = request->rand >> 32, n = 0;
  (void)strategy;
  if (request->n_tried == 0) n = picker->n; /* most requests: no walk */
  else for (uint32_t i = 0; i < picker->n; i++) n += !lb_is_tried(request, picker->fast[i]);
  if (n == 0 || request->rand % EXPLORES_ONE_IN == 0) {
    uint64_t all = lb_candidate_count(backends, request);
    if (all == 0) return LB_NONE;
    out->index = lb_candidate(backends, request, (uint32_t)((draw * all) >> 32));
    return LB_OK;
  }
  uint32_t nth = (uint32_t)((draw * n) >> 32), i = request->n_tried == 0 ? nth : 0;
  if (request->n_tried > 0) while (lb_is_tried(request, picker->fast[i]) || nth-- > 0) i++;
  out->index = picker->fast[i];
  return LB_OK;
}

/* The list of backends is not an argument, so the work is done in picker_new. */
static lb_status tick(lb_strategy *strategy, uint64_t now_ns) {
  (void)strategy, (void)now_ns;
  return LB_REBUILD;
}

static lb_status metrics(lb_strategy *strategy, lb_sink *out) {
  char lines[512];
  int length = snprintf(lines, sizeof lines,
                        "{\"name\":\"fast_backends\",\"type\":\"gauge\",\"help\":\"Backends that get most requests.\",\"value\":%u}\n"
                        "{\"name\":\"pickers_total\",\"type\":\"counter\",\"help\":\"Pickers that were made.\",\"value\":%llu}\n",
                        strategy->fast, (unsigned long long)strategy->pickers);
  lb_str text = {(const uint8_t *)lines, (size_t)length};
  strategy->host->sink_write(out, text);
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads the slice of eligible backends */
    .name = TEXT("fastest_half"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .tick_ms = 1000,
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .tick = tick,
    .metrics = metrics,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
