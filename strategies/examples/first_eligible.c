/* first_eligible.c: a complete strategy in plain C. It picks the first eligible backend that was not yet tried.
 *
 * Why it exists: it is the smallest correct strategy in C. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libfirst_eligible.so first_eligible.c
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct lb_strategy {
  const lb_host *host;
};

/* There is no data to compute, so every picker is the same constant. */
struct lb_picker {
  char nothing;
};
static const lb_picker THE_PICKER = {0};

static int is_tried(const lb_request *request, uint32_t index) {
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 1;
  return 0;
}

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  /* This strategy has no options, so any key in the JSON object is a mistake. */
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("first_eligible has no options");
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

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  (void)strategy, (void)picker;
  for (uint32_t i = 0; i < backends->len; i++) {
    if ((LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) && !is_tried(request, i)) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .name = TEXT("first_eligible"),
    .version = TEXT("1.0.0"),
    .build = TEXT("C"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
